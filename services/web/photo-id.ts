import { parseId, type Id } from '#kernel/snowflake.ts'
import { photoNotFound } from '#domain/photos/photos.queries.ts'

/**
 * The id of a photo out of a path.
 *
 * @throws ProblemError not_found: a malformed id names nothing, so it is answered as an absent one is
 */
export function photoIdOf(text: string): Id {
  const id = parseId(text)
  if (id === undefined) throw photoNotFound()
  return id
}
