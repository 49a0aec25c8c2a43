import { createHmac } from 'node:crypto'
import type { Selectable } from 'kysely'
import { shardOf, type Id } from '#kernel/snowflake.ts'
import type { AppRouter, Db, Trx } from '../database.ts'
import type { IdempotencyKeysTable } from './idempotency.table.ts'

/**
 * A request whose process died holds its key no longer than this; a retry then takes it over. One that is merely slow
 * may be taken over too: both work with the same id, and whoever commits first has made the thing.
 */
export const KEY_LOCK_MS = 10_000
export const KEY_LIFE_MS = 24 * 60 * 60 * 1_000
export const KEY_CHARACTERS_MAX = 255

/** An answer kept with its key: the status and the JSON body. */
export interface KeptAnswer {
  readonly status: number
  readonly body: object
}

/** One request's hold of a key: whoever takes the key over has another one. */
export interface KeyHold {
  readonly lockedUntil: Date
}

export type KeyState =
  /** The key is the caller's: do the work, with this id. */
  | { readonly kind: 'started'; readonly resourceId: Id; readonly hold: KeyHold }
  | { readonly kind: 'running'; readonly retryAfterSeconds: number }
  | { readonly kind: 'done'; readonly resourceId: Id; readonly fingerprint: string; readonly answer: KeptAnswer }

/**
 * What a request is, in one value that tells nothing of it: an HMAC over its parts.
 *
 * @returns 64 hex digits
 */
export function fingerprint(secretKey: string, parts: readonly string[]): string {
  const hmac = createHmac('sha256', secretKey)
  for (const part of parts) hmac.update(`${Buffer.byteLength(part)}:${part}`)
  return hmac.digest('hex')
}

/**
 * Takes a key for a request that begins, on the account's shard. Of many at once one gets it.
 *
 * @param mintId the id of what will be made, asked for when the key is new: an answer that is kept needs no id to be
 *   given again, and a request that takes over from a crashed one gets that one's id
 */
export async function startKey(
  router: AppRouter,
  owner: { readonly accountId: Id; readonly key: string },
  mintId: () => Promise<Id>,
): Promise<KeyState> {
  const { accountId, key } = owner
  const shard = shardOf(accountId)
  const known = await router.read(shard, (db) => findKey(db, owner).executeTakeFirst())
  const taken = known && stateOfTaken(known)
  if (taken !== undefined) return taken

  const newId = known === undefined ? await mintId() : undefined
  return router.write(shard, async (trx): Promise<KeyState> => {
    const lockedUntil = new Date(Date.now() + KEY_LOCK_MS)
    if (newId !== undefined) {
      const inserted = await trx
        .insertInto('idempotency_keys')
        .values({ account_id: accountId, key, resource_id: newId, locked_until: lockedUntil })
        .onConflict((conflict) => conflict.columns(['account_id', 'key']).doNothing())
        .returning('resource_id')
        .executeTakeFirst()
      if (inserted !== undefined) return { kind: 'started', resourceId: newId, hold: { lockedUntil } }
    }
    const row = await findKey(trx, owner).forUpdate().executeTakeFirst()
    if (row === undefined) return { kind: 'running', retryAfterSeconds: 1 }
    const state = stateOfTaken(row)
    if (state !== undefined) return state
    await trx
      .updateTable('idempotency_keys')
      .set({ locked_until: lockedUntil })
      .where('account_id', '=', accountId)
      .where('key', '=', key)
      .execute()
    return { kind: 'started', resourceId: row.resource_id, hold: { lockedUntil } }
  })
}

function findKey(db: Db | Trx, { accountId, key }: { readonly accountId: Id; readonly key: string }) {
  return db.selectFrom('idempotency_keys').selectAll().where('account_id', '=', accountId).where('key', '=', key)
}

/** What stands in the way of taking the key; undefined when its request died without an answer. */
function stateOfTaken(row: Selectable<IdempotencyKeysTable>): KeyState | undefined {
  if (row.status !== null && row.response !== null) {
    const answer = { status: row.status, body: row.response }
    return { kind: 'done', resourceId: row.resource_id, fingerprint: row.fingerprint ?? '', answer }
  }
  const lockedMs = row.locked_until.getTime() - Date.now()
  return lockedMs > 0 ? { kind: 'running', retryAfterSeconds: Math.ceil(lockedMs / 1_000) } : undefined
}

/**
 * Keeps the answer with its key, in the transaction of the effect. The first answer stands.
 *
 * @param resourceId the id that the work was done with
 * @returns false when the key has an answer already, or stands for another id by now: the effect must not be
 */
export async function finishKey(
  trx: Trx,
  owner: { readonly accountId: Id; readonly key: string; readonly resourceId: Id },
  request: string,
  answer: KeptAnswer,
): Promise<boolean> {
  const row = await trx
    .updateTable('idempotency_keys')
    .set({ fingerprint: request, status: answer.status, response: JSON.stringify(answer.body) })
    .where('account_id', '=', owner.accountId)
    .where('key', '=', owner.key)
    .where('resource_id', '=', owner.resourceId)
    .where('status', 'is', null)
    .returning('key')
    .executeTakeFirst()
  return row !== undefined
}

/**
 * Gives a key back whose request had no effect and whose answer is not kept. One that another request has taken over
 * meanwhile is left to that one: were its row gone, a third would work with a new id and make the thing twice.
 */
export async function releaseKey(
  router: AppRouter,
  owner: { readonly accountId: Id; readonly key: string },
  hold: KeyHold,
): Promise<void> {
  await router.write(shardOf(owner.accountId), (trx) =>
    trx
      .deleteFrom('idempotency_keys')
      .where('account_id', '=', owner.accountId)
      .where('key', '=', owner.key)
      .where('locked_until', '=', hold.lockedUntil)
      .where('status', 'is', null)
      .execute(),
  )
}
