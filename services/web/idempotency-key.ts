import { Type } from 'typebox'
import { problem } from '#kernel/errors.ts'
import { KEY_CHARACTERS_MAX } from '#domain/idempotency/idempotency.queries.ts'

/** For the description of an operation that takes a key; what a key may be is checked by `readIdempotencyKey`. */
export const IdempotencyHeaders = Type.Object({
  'idempotency-key': Type.Optional(
    Type.String({
      description: 'Of your making, hard to guess, one for each thing to make: the same request sent again with it makes one.',
    }),
  ),
})

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
