import { LRUCache } from 'lru-cache'
import type { Id } from '#kernel/snowflake.ts'
import { readSummaries } from '../accounts/accounts.cache.ts'
import { readPhotoFragments, type PhotoFragment, type PhotoReadContext } from './photos.cache.ts'
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
 * @param others takes the rows of the photos that are not published
 * @returns in the order of the ids; what is not published, or whose author is gone, is undefined
 */
export async function readShownPhotos(
  context: PhotoReadContext,
  ids: readonly Id[],
  others?: Map<Id, PhotoRow>,
): Promise<(ShownPhoto | undefined)[]> {
  const known = ids.map((id) => authorsOf.get(id))
  const [fragments, foreseen] = await Promise.all([
    readPhotoFragments(context, ids, others),
    readSummaries(context, known.filter((accountId) => accountId !== undefined)),
  ])
  const unforeseen = fragments.filter((fragment, at) => fragment !== undefined && fragment.accountId !== known[at]) as PhotoFragment[]
  const late = await readSummaries(context, unforeseen.map(({ accountId }) => accountId))
  for (const { id, accountId } of unforeseen) authorsOf.set(id, accountId)
  const ahead = foreseen.values()
  const behind = late.values()
  return fragments.map((fragment, at) => {
    const remembered = known[at] === undefined ? undefined : ahead.next().value
    if (fragment === undefined) return undefined
    const account = fragment.accountId === known[at] ? remembered : behind.next().value
    return account && { fragment, account }
  })
}
