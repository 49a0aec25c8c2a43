import { sql, type Selectable } from 'kysely'
import { shardOfName } from '#kernel/shard-hash.ts'
import { shardOf, type Id } from '#kernel/snowflake.ts'
import { problem, type ProblemError } from '#kernel/errors.ts'
import type { AppRouter } from '../database.ts'
import { writeThrough, type WriteContext } from '../write-through.ts'
import { keysOfProfileChange } from './accounts.keys.ts'
import type { ProfileChange } from './accounts.rules.ts'
import type { AccountsTable } from './accounts.table.ts'

export type AccountRow = Selectable<AccountsTable>

/**
 * Active accounts by id: one statement per node, in parallel. Ids that name none are absent from the map.
 */
export async function findAccounts(router: AppRouter, ids: readonly Id[]): Promise<Map<Id, AccountRow>> {
  const groups = [...router.groupByNode(ids, shardOf)]
  const found = await Promise.all(
    groups.map(([node, group]) =>
      node.primary
        .selectFrom('accounts')
        .selectAll()
        .where('id', '=', sql<Id>`any(${group})`)
        .where('status', '=', 'active')
        .execute(),
    ),
  )
  return new Map(found.flat().map((row) => [row.id, row]))
}

/** An active account by id. */
export async function findAccount(router: AppRouter, id: Id): Promise<AccountRow | undefined> {
  return router
    .read(shardOf(id))
    .selectFrom('accounts')
    .selectAll()
    .where('id', '=', id)
    .where('status', '=', 'active')
    .executeTakeFirst()
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
  const row = await router
    .read(shardOfName(username))
    .selectFrom('usernames')
    .select('account_id')
    .where('username', '=', username)
    .executeTakeFirst()
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

/** The one answer for an account that is absent, void, deleted or hidden. */
export function accountNotFound(): ProblemError {
  return problem('not_found', 'There is no such account.')
}
