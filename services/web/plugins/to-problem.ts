import type { FastifyRequest } from 'fastify'
import type { FastifySchemaValidationError } from 'fastify/types/schema.js'
import { problem, ProblemError, type ErrorCode, type FieldError } from '#kernel/errors.ts'
import { sqlstateOf } from '#platform/postgres/database-errors.ts'
import { isDatabaseUnavailable } from '#platform/postgres/database-unavailable.ts'

/** A failover or a restart of the database takes about as long. */
const DATABASE_RETRY_SECONDS = 5
const ERRORS_MAX = 20

const CODES_BY_STATUS: Partial<Record<number, ErrorCode>> = {
  404: 'not_found',
  406: 'unsupported_media_type',
  408: 'request_timeout',
  413: 'payload_too_large',
  414: 'not_found',
  415: 'unsupported_media_type',
  416: 'range_not_satisfiable',
}
const DETAILS: Partial<Record<ErrorCode, string>> = {
  not_found: 'There is nothing at this address.',
  request_timeout: 'The request did not arrive in time.',
  payload_too_large: 'The body is larger than this resource accepts.',
  unsupported_media_type: 'This resource does not accept a body of that content type.',
  range_not_satisfiable: 'The range lies outside the resource.',
}
/** A text with a NUL or a broken character in it, which no rule of ours had caught. */
const BAD_TEXT_STATES = new Set(['22021', '22P05'])
/** What the multipart parser says of a broken body, without a status of its own. */
const BROKEN_MULTIPART =
  /^(Unexpected end of (form|multipart data)|Multipart: Boundary not found|The needle cannot|Unsupported content type|Missing Content-Type|Malformed |\w+ terminated early)/
const PARTS: Partial<Record<string, string>> = { querystring: 'query', headers: 'headers', body: 'body' }

interface ForeignError {
  readonly code?: unknown
  readonly statusCode?: unknown
  readonly validation?: readonly FastifySchemaValidationError[]
  readonly validationContext?: string
}

/** What to tell the client of anything that a request threw. What we do not know is `internal`. */
export function toProblem(error: unknown, request: Pick<FastifyRequest, 'headers'>): ProblemError {
  if (error instanceof ProblemError) return error
  if (!(error instanceof Error)) return internal(error)
  const { code, statusCode, validation, validationContext = 'body' } = error as ForeignError
  if (validation !== undefined) return invalid(validation, validationContext)
  if (code === 'FST_ERR_BAD_URL') return problem('not_found', DETAILS.not_found ?? '')
  if (typeof statusCode === 'number' && statusCode >= 400 && statusCode < 500) {
    const known = CODES_BY_STATUS[statusCode] ?? 'invalid_request'
    return problem(known, DETAILS[known] ?? plain(error.message), { cause: error })
  }
  if (code === 'ERR_INVALID_URL') return problem('invalid_request', 'The address is malformed.', { cause: error })
  if (BAD_TEXT_STATES.has(sqlstateOf(error) ?? '')) {
    return problem('invalid_request', 'A text contains characters that cannot be stored.', { cause: error })
  }
  // Node's words for a client that hung up in the middle of its body: nobody reads the answer, and it is no fault of ours.
  if (code === 'ECONNRESET' && error.message === 'aborted') {
    return problem('invalid_request', 'The request ended before its body was complete.', { cause: error })
  }
  if (isDatabaseUnavailable(error)) {
    const extra = { cause: error, retryAfterSeconds: DATABASE_RETRY_SECONDS }
    return problem('unavailable', 'The database cannot be reached at the moment.', extra)
  }
  const multipart = request.headers['content-type']?.startsWith('multipart/') ?? false
  if (multipart && BROKEN_MULTIPART.test(error.message)) {
    return problem('invalid_request', 'The multipart body is malformed or incomplete.', { cause: error })
  }
  return internal(error)
}

function internal(cause: unknown): ProblemError {
  return problem('internal', 'Something went wrong. The request id helps us to find out what.', { cause })
}

/** A parameter of the path that is malformed names nothing. */
function invalid(errors: readonly FastifySchemaValidationError[], context: string): ProblemError {
  if (context === 'params') return problem('not_found', DETAILS.not_found ?? '')
  const part = PARTS[context] ?? context
  return problem('invalid_request', `The ${part} does not have the form that this resource asks for.`, {
    errors: errors.flatMap((error) => fieldErrors(part, error)).slice(0, ERRORS_MAX),
  })
}

function fieldErrors(part: string, error: FastifySchemaValidationError): FieldError[] {
  const at = `/${part}${error.instancePath}`
  const { requiredProperties } = error.params as { requiredProperties?: unknown }
  if (error.keyword === 'required' && Array.isArray(requiredProperties)) {
    return requiredProperties.map((name) => ({ path: `${at}/${pointer(name)}`, code: 'required', message: 'is required' }))
  }
  const { additionalProperties } = error.params as { additionalProperties?: unknown }
  if (error.keyword === 'additionalProperties' && Array.isArray(additionalProperties)) {
    return additionalProperties.map((name) => ({ path: `${at}/${pointer(name)}`, code: 'unknown', message: 'is unknown' }))
  }
  // typebox reports each unknown property a second time, as a schema of `false`.
  if (error.keyword === 'boolean') return []
  return [{ path: at, code: snakeCase(error.keyword), message: error.message ?? 'is not acceptable' }]
}

function pointer(name: unknown): string {
  return String(name).replaceAll('~', '~0').replaceAll('/', '~1')
}

function snakeCase(keyword: string): string {
  return keyword.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
}

function plain(message: string): string {
  return message.endsWith('.') ? message : `${message}.`
}
