import { sql, type Selectable } from 'kysely'
import { shardOfName } from '#kernel/shard-hash.ts'
import { shardOf, type Id } from '#kernel/snowflake.ts'
import { problem, type ProblemError } from '#kernel/errors.ts'
import { compileStatement } from '#platform/postgres/compiled-statement.ts'
import { anyId, gatheredById } from '#platform/postgres/gathered-read.ts'
import type { AppRouter, Database } from '../database.ts'
import { writeThrough, type WriteContext } from '../write-through.ts'
import { keysOfProfileChange } from './accounts.keys.ts'
import type { ProfileChange } from './accounts.rules.ts'
import type { AccountRole, AccountsTable } from './accounts.table.ts'

export type AccountRow = Selectable<AccountsTable>

const activeById = gatheredById(
  compileStatement<Database, AccountRow>((db) =>
    db
      .selectFrom('accounts')
      .select([
        'id', 'status', 'role', 'username', 'display_name', 'bio', 'email', 'private', 'feed_floor', 'last_seen_at',
        'created_at',
      ])
      .where('id', '=', anyId<Id>())
      .where('status', '=', sql.lit('active')),
  ),
)

/**
 * Active accounts by id: with all that is asked in the same tick one statement per node, in parallel. Ids that name
 * none are absent from the map. Rows are shared, and not to be changed.
 */
export async function findAccounts(router: AppRouter, ids: readonly Id[]): Promise<Map<Id, AccountRow>> {
  const found = await router.readEach(ids, shardOf, (db, group) => activeById.many(db, group))
  return new Map(found.flat().map((row) => [row.id, row]))
}

/** An active account by id, as `findAccounts` finds it. */
export async function findAccount(router: AppRouter, id: Id): Promise<AccountRow | undefined> {
  return router.read(shardOf(id), (db) => activeById.one(db, id))
}

/**
 * An active account by username. A reservation that is not claimed yet leads to its account too,
 * once that exists: the account's row is what counts.
 *
 * @param username in its stored form
 */
export async function findAccountByUsername(router: AppRouter, username: string): Promise<AccountRow | undefined> {
  const id = await findUsernameHolder(router, username)
  const account = id === undefined ? undefined : await findAccount(router, id)
  return account?.username === username ? account : undefined
}

/** The id that a username is reserved for or claimed by; its account may not exist yet. */
export async function findUsernameHolder(router: AppRouter, username: string): Promise<Id | undefined> {
  const row = await router.read(shardOfName(username), (db) =>
    db.selectFrom('usernames').select('account_id').where('username', '=', username).executeTakeFirst(),
  )
  return row?.account_id
}

/**
 * Changes an active account's profile.
 *
 * @throws ProblemError not_found
 */
export async function updateProfile(context: WriteContext, id: Id, change: ProfileChange): Promise<AccountRow> {
  const values = {
    ...(change.displayName !== undefined && { display_name: change.displayName }),
    ...(change.bio !== undefined && { bio: change.bio }),
    ...(change.private !== undefined && { private: change.private }),
  }
  const row =
    Object.keys(values).length === 0
      ? await findAccount(context.router, id)
      : await writeThrough(context, shardOf(id), (trx, stale) => {
          stale(keysOfProfileChange(id))
          return trx
            .updateTable('accounts')
            .set(values)
            .where('id', '=', id)
            .where('status', '=', 'active')
            .returningAll()
            .executeTakeFirst()
        })
  if (row === undefined) throw accountNotFound()
  return row
}

/**
 * Makes an active account a moderator, or a member again. Sessions that are cached learn it within five seconds.
 *
 * @throws ProblemError not_found
 */
export async function setRole(router: AppRouter, id: Id, role: AccountRole): Promise<void> {
  const { numUpdatedRows } = await router.write(shardOf(id), (trx) =>
    trx.updateTable('accounts').set({ role }).where('id', '=', id).where('status', '=', 'active').executeTakeFirst(),
  )
  if (numUpdatedRows === 0n) throw accountNotFound()
}

/** The one answer for an account that is absent, void, deleted or hidden. */
export function accountNotFound(): ProblemError {
  return problem('not_found', 'There is no such account.')
}
