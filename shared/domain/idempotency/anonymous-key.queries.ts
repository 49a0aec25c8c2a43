import type { Selectable } from 'kysely'
import { shardOfName } from '#kernel/shard-hash.ts'
import type { Id } from '#kernel/snowflake.ts'
import type { AppRouter, Db } from '../database.ts'
import { KEY_LOCK_MS, type KeptAnswer, type KeyHold } from './idempotency.queries.ts'
import type { AnonymousIdempotencyKeysTable } from './idempotency.table.ts'

/** A key of a request that nobody signed, and what the request is (see `fingerprint`). */
export interface AnonymousKey {
  readonly key: string
  readonly request: string
}

export type AnonymousKeyState =
  /** The key is the caller's: do the work, with this id. Another try may have done some of it, and may still be at it. */
  | { readonly kind: 'started'; readonly resourceId: Id; readonly hold: KeyHold; readonly isTakenOver: boolean }
  | { readonly kind: 'running'; readonly retryAfterSeconds: number }
  /** The key stands for another request; of that one nothing is told. */
  | { readonly kind: 'mismatch' }
  | { readonly kind: 'done'; readonly resourceId: Id; readonly answer: KeptAnswer }

/**
 * Takes a key for a request that begins, on the shard of the key's hash. Of many at once one gets it.
 *
 * @param mintId the id of what will be made; a request that takes over from a crashed one gets that one's id instead
 */
export async function startAnonymousKey(
  router: AppRouter,
  { key, request }: AnonymousKey,
  mintId: () => Promise<Id>,
): Promise<AnonymousKeyState> {
  const shard = shardOfName(key)
  // Before an id is minted and a lock is taken: of a hundred at once, most end here.
  const known = await router.read(shard, (db) => findKey(db, key))
  const settled = known && stateOf(known, request)
  if (settled !== undefined) return settled

  const resourceId = await mintId()
  return router.write(shard, async (trx): Promise<AnonymousKeyState> => {
    const lockedUntil = new Date(Date.now() + KEY_LOCK_MS)
    const inserted = await trx
      .insertInto('anonymous_idempotency_keys')
      .values({ key, shard, resource_id: resourceId, locked_until: lockedUntil, fingerprint: request })
      .onConflict((conflict) => conflict.column('key').doNothing())
      .returning('key')
      .executeTakeFirst()
    const hold = { lockedUntil }
    if (inserted !== undefined) return { kind: 'started', resourceId, hold, isTakenOver: false }

    const row = await findKey(trx, key, { lock: true })
    if (row === undefined) return { kind: 'running', retryAfterSeconds: 1 }
    const state = stateOf(row, request)
    if (state !== undefined) return state
    await trx.updateTable('anonymous_idempotency_keys').set({ locked_until: lockedUntil }).where('key', '=', key).execute()
    return { kind: 'started', resourceId: row.resource_id, hold, isTakenOver: true }
  })
}

/**
 * Keeps the answer with its key. The first answer stands.
 *
 * @param resourceId the id that the work was done with: a key that stands for another one by now is left alone
 */
export async function finishAnonymousKey(
  router: AppRouter,
  { key, resourceId }: { readonly key: string; readonly resourceId: Id },
  answer: KeptAnswer,
): Promise<void> {
  await router.write(shardOfName(key), (trx) =>
    trx
      .updateTable('anonymous_idempotency_keys')
      .set({ status: answer.status, response: JSON.stringify(answer.body) })
      .where('key', '=', key)
      .where('resource_id', '=', resourceId)
      .where('status', 'is', null)
      .execute(),
  )
}

/**
 * Gives a key back whose request had no effect, can have none any more, and whose answer is not kept. One that another
 * request has taken over meanwhile is left to that one.
 */
export async function releaseAnonymousKey(router: AppRouter, key: string, hold: KeyHold): Promise<void> {
  await router.write(shardOfName(key), (trx) =>
    trx
      .deleteFrom('anonymous_idempotency_keys')
      .where('key', '=', key)
      .where('locked_until', '=', hold.lockedUntil)
      .where('status', 'is', null)
      .execute(),
  )
}

type KeyRow = Selectable<AnonymousIdempotencyKeysTable>

function findKey(db: Db, key: string, { lock = false } = {}): Promise<KeyRow | undefined> {
  const query = db.selectFrom('anonymous_idempotency_keys').selectAll().where('key', '=', key)
  return (lock ? query.forUpdate() : query).executeTakeFirst()
}

/** What a row answers to a request; undefined when its own request has died and this one may take over. */
function stateOf(row: KeyRow, request: string): AnonymousKeyState | undefined {
  if (row.fingerprint !== request) return { kind: 'mismatch' }
  if (row.status !== null && row.response !== null) {
    return { kind: 'done', resourceId: row.resource_id, answer: { status: row.status, body: row.response } }
  }
  const lockedMs = row.locked_until.getTime() - Date.now()
  return lockedMs > 0 ? { kind: 'running', retryAfterSeconds: Math.ceil(lockedMs / 1_000) } : undefined
}
