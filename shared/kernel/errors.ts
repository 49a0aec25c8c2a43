/**
 * Every error that a client can be told of, with its HTTP status and a title for people (RFC 9457).
 * docs/errors.md explains each one; a test proves that the two agree.
 */
export const ERRORS = {
  invalid_request: { status: 400, title: 'The request is malformed' },
  unauthorized: { status: 401, title: 'Authentication is needed' },
  not_found: { status: 404, title: 'There is no such resource' },
  method_not_allowed: { status: 405, title: 'The resource does not support this method' },
  request_timeout: { status: 408, title: 'The request took too long to arrive' },
  username_taken: { status: 409, title: 'The username is taken' },
  email_taken: { status: 409, title: 'The email address is taken' },
  idempotency_in_progress: { status: 409, title: 'A request with this idempotency key is still running' },
  photo_claimed: { status: 409, title: 'Another moderator has the photo' },
  photo_not_held: { status: 409, title: 'The photo is not held for review' },
  payload_too_large: { status: 413, title: 'The body is too large' },
  unsupported_media_type: { status: 415, title: 'The media type is not supported' },
  range_not_satisfiable: { status: 416, title: 'The range lies outside the resource' },
  self_follow: { status: 422, title: 'An account cannot follow itself' },
  too_many_tags: { status: 422, title: 'The caption has too many tags' },
  too_many_pixels: { status: 422, title: 'The image has too many pixels' },
  too_many_following: { status: 422, title: 'The account follows as many accounts as it may' },
  idempotency_mismatch: { status: 422, title: 'The idempotency key was used for another request' },
  private_accounts_unavailable: { status: 422, title: 'Private accounts are not available' },
  rate_limited: { status: 429, title: 'Too many requests' },
  internal: { status: 500, title: 'Something went wrong on our side' },
  unavailable: { status: 503, title: 'The service is unavailable for the moment' },
  ids_unavailable: { status: 503, title: 'No id can be given out for the moment' },
  insufficient_storage: { status: 507, title: 'There is no room to store this' },
} as const satisfies Record<string, { status: number; title: string }>

export type ErrorCode = keyof typeof ERRORS

/** What is wrong with one field of a request; `path` is a JSON pointer, such as `/body/username`. */
export interface FieldError {
  path: string
  code: string
  message: string
}

/** What a problem may carry besides its code and detail. */
export interface ProblemExtra {
  errors?: readonly FieldError[]
  /** Whole seconds after which trying again makes sense: the Retry-After header. */
  retryAfterSeconds?: number
  /** What led to it: for the log, never for the client. */
  cause?: unknown
}

/** An error of the catalogue, thrown anywhere below a route and rendered by it as `application/problem+json`. */
export class ProblemError extends Error {
  readonly code: ErrorCode
  readonly status: number
  readonly title: string
  readonly detail: string
  readonly errors: readonly FieldError[] | undefined
  readonly retryAfterSeconds: number | undefined

  constructor(code: ErrorCode, detail: string, extra: ProblemExtra = {}) {
    super(detail, extra.cause === undefined ? undefined : { cause: extra.cause })
    this.name = 'ProblemError'
    this.code = code
    this.status = ERRORS[code].status
    this.title = ERRORS[code].title
    this.detail = detail
    this.errors = extra.errors
    this.retryAfterSeconds = extra.retryAfterSeconds
  }
}

/** Makes (does not throw) a problem of the catalogue; `detail` is shown to the client. */
export function problem(code: ErrorCode, detail: string, extra?: ProblemExtra): ProblemError {
  return new ProblemError(code, detail, extra)
}
