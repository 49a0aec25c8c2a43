import { findAccounts } from '../accounts/accounts.queries.ts'
import { presentAccountSummary } from '../accounts/accounts.presenter.ts'
import type { Context } from '../context.ts'
import { presentPhoto, type PhotoJson } from './photos.presenter.ts'
import type { PhotoRow } from './photos.queries.ts'

/**
 * Renders photos with their authors, whom it reads in one statement per node. Photos whose author is gone are left out.
 *
 * @returns in the order of `rows`
 */
export async function photosToJson(
  context: Pick<Context, 'router' | 'config'>,
  rows: readonly PhotoRow[],
): Promise<PhotoJson[]> {
  const authors = await findAccounts(context.router, [...new Set(rows.map((row) => row.account_id))])
  return rows.flatMap((row) => {
    const author = authors.get(row.account_id)
    if (author?.status !== 'active') return []
    return [presentPhoto(row, presentAccountSummary(author), context.config.http.publicUrl ?? '')]
  })
}
