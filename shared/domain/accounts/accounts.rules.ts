import { problem, type FieldError } from '#kernel/errors.ts'

export const PASSWORD_CHARACTERS_MIN = 8
export const PASSWORD_CHARACTERS_MAX = 256
export const DISPLAY_NAME_CHARACTERS_MAX = 50
export const BIO_CHARACTERS_MAX = 500
export const EMAIL_CHARACTERS_MAX = 254

const USERNAME = /^[A-Za-z0-9_.]{3,30}$/
/** A name of digits and dots alone could be taken for an id, or for a number. */
const LETTER = /[A-Za-z_]/
/** Whether mail arrives is the only real proof of an address, so this asks for little. */
const EMAIL = /^[^\s@\p{Cc}]+@[^\s@\p{Cc}]+\.[^\s@\p{Cc}]+$/u
/** PostgreSQL's text cannot hold NUL, and no other control character but these belongs in a name or a biography. */
const FORBIDDEN_IN_TEXT = /[^\P{Cc}\n\t]/u

/** What a client sends to sign up, of the right types but unchecked. */
export interface SignUpInput {
  readonly username: string
  readonly password: string
  readonly displayName?: string | null | undefined
  readonly email?: string | null | undefined
}

/** A sign-up that keeps the rules: names in lower case, texts trimmed. */
export interface NewAccount {
  readonly username: string
  readonly password: string
  readonly displayName: string
  readonly email: string | null
}

/** What of its profile an account changes; what is absent stays. */
export interface ProfileChange {
  readonly displayName?: string
  readonly bio?: string
  readonly private?: boolean
}

/** The stored form of a username, or undefined when no account can have it. Upper case is taken for lower case. */
export function normaliseUsername(text: string): string | undefined {
  return USERNAME.test(text) && LETTER.test(text) ? text.toLowerCase() : undefined
}

/**
 * Checks a sign-up by every rule at once.
 *
 * @throws ProblemError invalid_request that names each field that is wrong
 */
export function checkSignUp(input: SignUpInput): NewAccount {
  const errors: FieldError[] = []
  const username = normaliseUsername(input.username)
  if (username === undefined) {
    errors.push(
      field('username', 'invalid', 'must have 3 to 30 of a-z, 0-9, _ and ., with at least one letter or underscore'),
    )
  }
  errors.push(...lengthErrors('password', input.password, PASSWORD_CHARACTERS_MIN, PASSWORD_CHARACTERS_MAX))
  const givenName = input.displayName?.trim()
  if (givenName !== undefined) errors.push(...displayNameErrors(givenName))
  const email = input.email?.trim().toLowerCase() ?? null
  if (email !== null && (!EMAIL.test(email) || email.length > EMAIL_CHARACTERS_MAX)) {
    errors.push(field('email', 'invalid', 'must be an email address'))
  }
  refuse(errors)
  return { username: username ?? '', password: input.password, displayName: givenName ?? username ?? '', email }
}

/**
 * Checks a change of one's profile.
 *
 * @throws ProblemError invalid_request that names each field that is wrong; private_accounts_unavailable
 */
export function checkProfileChange(change: ProfileChange): ProfileChange {
  const displayName = change.displayName?.trim()
  const bio = change.bio?.trim()
  refuse([
    ...(displayName === undefined ? [] : displayNameErrors(displayName)),
    ...(bio === undefined ? [] : textErrors('bio', bio, 0, BIO_CHARACTERS_MAX)),
  ])
  if (change.private === true) {
    throw problem('private_accounts_unavailable', 'Accounts cannot be made private yet.')
  }
  return {
    ...(displayName !== undefined && { displayName }),
    ...(bio !== undefined && { bio }),
    ...(change.private !== undefined && { private: change.private }),
  }
}

function displayNameErrors(name: string): FieldError[] {
  return textErrors('displayName', name, 1, DISPLAY_NAME_CHARACTERS_MAX)
}

function textErrors(name: string, text: string, min: number, max: number): FieldError[] {
  const errors = lengthErrors(name, text, min, max)
  if (FORBIDDEN_IN_TEXT.test(text)) errors.push(field(name, 'invalid', 'must not contain control characters'))
  return errors
}

/** Length counts code points: what a reader takes for characters, without the rules of graphemes. */
function lengthErrors(name: string, text: string, min: number, max: number): FieldError[] {
  const { length } = Array.from(text)
  if (length < min) return [field(name, 'too_short', `must have at least ${min} characters`)]
  if (length > max) return [field(name, 'too_long', `must have at most ${max} characters`)]
  return []
}

function field(name: string, code: string, message: string): FieldError {
  return { path: `/body/${name}`, code, message }
}

function refuse(errors: readonly FieldError[]): void {
  if (errors.length > 0) throw problem('invalid_request', 'Some fields are not acceptable.', { errors })
}
