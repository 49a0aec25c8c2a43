import { setTimeout as wait } from 'node:timers/promises'
import { sql } from 'kysely'
import type { Db } from '#domain/database.ts'

/**
 * Knows which keys' deletes were not confirmed by a cache server in time, and when. Until such a delete is redone another
 * process may read what was there before (ADR 17): the one thing that excuses an old value.
 */
export interface OwedDeletes {
  /** Whether the delete of one of the keys was owed near a time, by `performance.now()`; resolves when that is known. */
  wasOwed(keys: readonly string[], startMs: number, endMs: number): Promise<boolean>
  stop(): Promise<void>
}

/** A delete that is confirmed leaves no row behind for so long; one that is not leaves it for a second at least. */
const OWED_AGE_MS = 500
const POLL_MS = 100
/** A row that excuses a read is seen at most so long before or after it. */
const SEEN_WITHIN_MS = 1_500

/** @param dbs every node; one that is away tells nothing */
export function watchOwedDeletes(dbs: readonly Db[]): OwedDeletes {
  const seen: { readonly atMs: number; readonly keys: ReadonlySet<string> }[] = []
  const state = { isStopping: false }

  async function look(): Promise<void> {
    const found = await Promise.all(dbs.map((db) => readOwed(db).catch(() => [])))
    seen.push({ atMs: performance.now(), keys: new Set(found.flat()) })
  }
  const polling = (async () => {
    while (!state.isStopping) {
      await look()
      await wait(POLL_MS)
    }
  })()

  return {
    async wasOwed(keys, startMs, endMs) {
      while (!state.isStopping && (seen.at(-1)?.atMs ?? 0) < endMs + SEEN_WITHIN_MS) await Promise.race([wait(POLL_MS), polling])
      return seen.some(({ atMs, keys: owed }) =>
        atMs >= startMs - SEEN_WITHIN_MS && atMs <= endMs + SEEN_WITHIN_MS && keys.some((key) => owed.has(key)))
    },
    async stop() {
      state.isStopping = true
      await polling
    },
  }
}

async function readOwed(db: Db): Promise<string[]> {
  const { rows } = await sql<{ key: string }>`select distinct unnest(keys) as key from cache_invalidations
    where recorded_at < now() - ${OWED_AGE_MS} * interval '1 millisecond'`.execute(db)
  return rows.map(({ key }) => key)
}
