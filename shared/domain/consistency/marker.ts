import type { Id } from '#kernel/snowflake.ts'
import type { Node } from '#platform/postgres/node.ts'
import type { Reach } from '#platform/postgres/reader.ts'
import {
  packPosition, POSITION_BYTES, readFlushedPosition, unpackPosition, type WalPosition,
} from '#platform/postgres/wal-position.ts'
import type { Invalidations } from '#platform/memcached/invalidations.ts'
import { cachedForm, readForm, tagged, TAG_BYTES } from '../cached-form.ts'
import type { Context } from '../context.ts'
import type { Database } from '../database.ts'

/*
 * Why an account reads its own writes also on replicas. A marker says where the logs of all nodes ended at a moment, and
 * whoever reads for the account takes only replicas that have replayed as far. It is a cached value as any other: every
 * write of the account names its key as stale, so before the write is answered the marker is gone, by the same means
 * (lease, delete, row for the sweeper) that keep other values true; and the next one is read after that from the
 * primaries, which have the write. So a marker that is there covers every write that was answered before it was asked for.
 */

/** It might live longer and be right; with each new one the account's reads catch up with the present. */
const LIFE_MS = 30_000
const FORM = cachedForm('marker 1', LIFE_MS)

function markerKey(accountId: Id): string {
  return `marker:${accountId}`
}

/** Keys made stale by anything that an account writes and may look for. */
export function keysOfOwnWrite(accountId: Id): string[] {
  return [markerKey(accountId)]
}

/** The invalidations for what an account writes: its marker goes with every change. */
export function withMarker(invalidations: Invalidations, accountId: Id): Invalidations {
  return { ...invalidations, record: (trx, keys) => invalidations.record(trx, [...keys, ...keysOfOwnWrite(accountId)]) }
}

/** How far replicas must be for an account, as its marker says; a marker that is missing is made. */
export async function readMarker(context: Pick<Context, 'router' | 'cache'>, accountId: Id): Promise<Reach> {
  const packed = await readForm(context, FORM, markerKey(accountId), async ({ nodes }) => {
    const positions = await readPositions(nodes)
    return tagged(FORM, ...positions.map(packPosition))
  })
  const reach = new Map<string, bigint>()
  for (let at = TAG_BYTES; packed !== undefined && at < packed.length; at += POSITION_BYTES) {
    const position = unpackPosition(packed, at)
    if (position !== null) extendReach(reach, position)
  }
  return reach
}

/** Where the logs of those nodes end that have replicas and answer: what has been committed there lies before. */
export async function readPositions(nodes: Iterable<Node<Database>>): Promise<WalPosition[]> {
  const read = [...nodes].filter(({ replicas }) => replicas !== null).map(({ primary }) => readFlushedPosition(primary))
  const answers = await Promise.allSettled(read)
  return answers.flatMap((answer) => (answer.status === 'fulfilled' ? [answer.value] : []))
}

/** Adds a position to a reach; of two in one history the later counts. */
export function extendReach(reach: Map<string, bigint>, { history, lsn }: WalPosition): void {
  const before = reach.get(history)
  if (before === undefined || before < lsn) reach.set(history, lsn)
}

