import { endSession, session } from './session.js'

/** What the API answered instead of what was asked for; `problem` is its RFC 9457 body. */
export class ApiError extends Error {
  constructor(status, problem) {
    super(problem.detail ?? `The server answered ${status}.`)
    this.status = status
    this.problem = problem
  }
}

/**
 * Asks the API, as whoever is signed in.
 *
 * @param options `json` or `form` as the body, more `headers`, a `signal` to give up by
 * @returns the answer's JSON, or null when it has none
 * @throws ApiError; TypeError when the server cannot be reached; AbortError
 */
export async function call(method, path, { json, form, headers = {}, signal } = {}) {
  const token = session()?.token
  const response = await fetch(path, {
    method,
    headers: {
      ...headers,
      ...(json !== undefined && { 'content-type': 'application/json' }),
      ...(token !== undefined && { authorization: `Bearer ${token}` }),
    },
    body: json === undefined ? (form ?? null) : JSON.stringify(json),
    signal: signal ?? null,
  })
  const text = await response.text()
  const body = parse(text)
  if (response.ok) return body
  // The token was revoked or has expired: whoever asked with it is signed out. A wrong password comes without one.
  if (response.status === 401 && token !== undefined && session()?.token === token) endSession()
  throw new ApiError(response.status, body ?? {})
}

function parse(text) {
  try {
    return text === '' ? null : JSON.parse(text)
  } catch {
    return null
  }
}

/** What to tell people of an error: the problem's detail and its fields. */
export function explain(error) {
  if (!(error instanceof ApiError)) return 'The server could not be reached. Is the network there?'
  const fields = (error.problem.errors ?? []).map(({ path, message }) => `${path.split('/').pop()} ${message}`)
  const wanted = fields.filter((field) => !error.message.includes(field))
  return wanted.length === 0 ? error.message : `${error.message} (${wanted.join('; ')})`
}

/** A fresh Idempotency-Key: with it the same request may be sent again without being done twice. */
export function idempotencyKey() {
  // Not randomUUID, which browsers keep from pages that came without TLS.
  const bytes = crypto.getRandomValues(new Uint8Array(16))
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('')
}
