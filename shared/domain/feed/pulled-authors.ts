import type { Context } from '../context.ts'
import type { Db } from '../database.ts'
import { NO_TRACE, withTrace } from '#platform/logger/trace.ts'
import { listPulledAuthors, type PulledAuthor } from './pulled-authors.queries.ts'

/** A process's list is so old at the most, unless the directory cannot be read. */
export const PULLED_LIST_MAX_AGE_MS = 5_000

interface KnownList {
  readonly atMs: number
  readonly authors: Promise<readonly PulledAuthor[]>
}

/** One list for each directory that this process reads. */
const lists = new WeakMap<Db, KnownList>()

/**
 * The authors whom readers have to pull, as the directory had them within the last five seconds. While the directory is
 * away it is the last list known: who is promoted meanwhile is seen later, as with a fan-out that is late.
 *
 * @throws whatever PostgreSQL says, if there never was a list
 */
export async function readPulledAuthors(context: Pick<Context, 'router' | 'clock'>): Promise<readonly PulledAuthor[]> {
  const { router, clock } = context
  const key = router.directory.primary
  const known = lists.get(key)
  const nowMs = clock.monotonicMs()
  if (known !== undefined && nowMs - known.atMs < PULLED_LIST_MAX_AGE_MS) return known.authors
  // It is nobody's request: all that come meanwhile wait for it.
  const fresh = withTrace(NO_TRACE, () => listPulledAuthors(router))
  const authors = known === undefined ? fresh : fresh.catch(() => known.authors)
  lists.set(key, { atMs: nowMs, authors })
  if (known === undefined) fresh.catch(() => lists.delete(key))
  return authors
}
