import { sql } from 'kysely'
import { shardOfName } from '#kernel/shard-hash.ts'
import type { Id } from '#kernel/snowflake.ts'
import type { AppRouter, Db } from '../database.ts'

/** What is unique among accounts and lives on the shard of its own hash, in a table of its own. */
export type NameKind = 'username' | 'email'

/** A name held for an account, in its stored form. */
export interface Reservation {
  readonly kind: NameKind
  readonly name: string
  readonly accountId: Id
}

const TABLES = { username: 'usernames', email: 'emails' } as const

/**
 * Takes a name for an account that will be made; false when another holds it. What another try to make the same
 * account has reserved is as good, and young again, so that the sweep leaves this try its time.
 */
export async function reserveName(router: AppRouter, { kind, name, accountId }: Reservation): Promise<boolean> {
  const shard = shardOfName(name)
  return router.write(shard, async (trx) => {
    const { rows } = await sql`
      insert into ${sql.table(TABLES[kind])} (${sql.ref(kind)}, shard, account_id)
      values (${name}, ${shard}, ${accountId})
      on conflict (${sql.ref(kind)}) do update set reserved_at = excluded.reserved_at
        where ${sql.ref(`${TABLES[kind]}.account_id`)} = excluded.account_id
      returning account_id`.execute(trx)
    return rows.length > 0
  })
}

/** Marks a reservation as its account's for good. */
export async function claimName(router: AppRouter, { kind, name, accountId }: Reservation): Promise<void> {
  await router.write(shardOfName(name), (trx) =>
    sql`update ${sql.table(TABLES[kind])} set claimed_at = now()
      where ${sql.ref(kind)} = ${name} and account_id = ${accountId} and claimed_at is null`.execute(trx),
  )
}

/** Gives a reservation up. Only for one whose account was not made and cannot be made any more. */
export async function freeName(router: AppRouter, { kind, name, accountId }: Reservation): Promise<void> {
  await router.write(shardOfName(name), (trx) =>
    sql`delete from ${sql.table(TABLES[kind])}
      where ${sql.ref(kind)} = ${name} and account_id = ${accountId} and claimed_at is null`.execute(trx),
  )
}

/** True when somebody else holds the name, with or without an account yet. */
export async function isNameHeld(router: AppRouter, { kind, name, accountId }: Reservation): Promise<boolean> {
  const { rows } = await router.read(shardOfName(name), (db) =>
    sql`select from ${sql.table(TABLES[kind])}
      where ${sql.ref(kind)} = ${name} and account_id <> ${accountId}`.execute(db),
  )
  return rows.length > 0
}

/** A node's unclaimed reservations older than that, by its own clock, oldest first; shards on the move are left out. */
export async function listUnclaimed(
  db: Db,
  kind: NameKind,
  page: { readonly olderThanMs: number; readonly limit: number },
): Promise<Reservation[]> {
  const { rows } = await sql<{ name: string; account_id: Id }>`
    select ${sql.ref(kind)} as name, account_id from ${sql.table(TABLES[kind])} n
    where claimed_at is null and reserved_at < now() - ${page.olderThanMs}::float8 * interval '1 millisecond'
      and not exists (select from shard_state s where s.shard = n.shard)
    order by reserved_at limit ${page.limit}`.execute(db)
  return rows.map((row) => ({ kind, name: row.name, accountId: row.account_id }))
}
