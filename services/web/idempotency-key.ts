import { problem } from '#kernel/errors.ts'
import { KEY_CHARACTERS_MAX } from '#domain/idempotency/idempotency.queries.ts'

/**
 * The Idempotency-Key of a request, or null without one.
 *
 * @throws ProblemError invalid_request unless it is 1 to 255 printable ASCII characters
 */
export function readIdempotencyKey(header: string | string[] | undefined): string | null {
  if (header === undefined) return null
  if (typeof header !== 'string' || header.length > KEY_CHARACTERS_MAX || !/^[\x21-\x7e]+$/.test(header)) {
    const message = `must be 1 to ${KEY_CHARACTERS_MAX} printable ASCII characters without spaces`
    throw problem('invalid_request', `The Idempotency-Key header ${message}.`, {
      errors: [{ path: '/headers/idempotency-key', code: 'invalid', message }],
    })
  }
  return header
}
