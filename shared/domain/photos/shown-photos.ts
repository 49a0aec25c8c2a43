import { LRUCache } from 'lru-cache'
import type { Id } from '#kernel/snowflake.ts'
import { readSummaries } from '../accounts/accounts.cache.ts'
import { readPhotoFragments, type PhotoReadContext } from './photos.cache.ts'
import type { PhotoRow } from './photos.queries.ts'
import type { ShownPhoto } from './photos.splice.ts'

/** Photos of which a process remembers whose they are: some megabytes. */
const AUTHORS_REMEMBERED_MAX = 20_000

/** A photo's author never changes, so this is never out of date. */
const authorsOf = new LRUCache<Id, Id>({ max: AUTHORS_REMEMBERED_MAX })

/**
 * Published photos by id with their authors' summaries. Those of the authors that are known from an earlier reading are
 * asked for together with the photos, so both are one round to the cache.
 *
 * @param others takes the rows, fresh from the primary, of the photos that are not published
 * @returns in the order of the ids; what is not published, or whose author is gone, is undefined
 */
export async function readShownPhotos(
  context: PhotoReadContext,
  ids: readonly Id[],
  others?: Map<Id, PhotoRow>,
): Promise<(ShownPhoto | undefined)[]> {
  const foreseen = ids.flatMap((id) => authorsOf.get(id) ?? [])
  const [fragments, ahead] = await Promise.all([
    readPhotoFragments(context, ids, others),
    readSummaries(context, foreseen),
  ])
  const summaries = new Map(foreseen.map((accountId, at) => [accountId, ahead[at]]))
  const unforeseen: Id[] = []
  for (const fragment of fragments) {
    if (fragment === undefined || summaries.has(fragment.accountId)) continue
    authorsOf.set(fragment.id, fragment.accountId)
    unforeseen.push(fragment.accountId)
  }
  const late = await readSummaries(context, unforeseen)
  for (const [at, accountId] of unforeseen.entries()) summaries.set(accountId, late[at])
  return fragments.map((fragment) => {
    const account = fragment && summaries.get(fragment.accountId)
    return fragment && account && { fragment, account }
  })
}
