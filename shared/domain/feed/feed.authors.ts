import { sql } from 'kysely'
import { shardOf, type Id } from '#kernel/snowflake.ts'
import type { AppRouter } from '../database.ts'
import { mergeEntries, type FeedEntry } from './feed.rules.ts'

/** Where a stretch begins (exclusive) and how many places it may have. */
export interface Stretch {
  readonly before: Id
  readonly rows: number
}

/** The newest published photos of many authors, in `from` to before `before`: one statement per node, in parallel. */
export async function readAuthors(
  router: AppRouter,
  authors: readonly Id[],
  { from, before, rows }: Stretch & { readonly from: Id },
): Promise<FeedEntry[]> {
  if (from >= before) return []
  const lists = await router.readEach(authors, shardOf, async (db, group) => {
    const answer = await sql<{ published_id: Id; id: Id }>`
      select newest.published_id, newest.id
      from unnest(${group}::bigint[]) as author (id)
      cross join lateral (
        select published_id, id from photos
        where account_id = author.id and status = 'published'
          and published_id < ${before} and published_id >= ${from}
        order by published_id desc limit ${rows}
      ) as newest
      order by newest.published_id desc limit ${rows}`.execute(db)
    return answer.rows.map((row) => ({ publishedId: row.published_id, photoId: row.id }))
  })
  return mergeEntries(lists, rows)
}

/** Which of an author's photos are wanted: those from `from` to before `before`, all or only the pulled ones. */
export interface AuthorRange {
  readonly authorId: Id
  readonly from: Id
  readonly before: Id
  readonly onlyPulled: boolean
}

/** The newest of the wanted photos of some authors: one statement per node, in parallel. */
export async function readAuthorRanges(
  router: AppRouter,
  ranges: readonly AuthorRange[],
  rows: number,
): Promise<FeedEntry[]> {
  const lists = await router.readEach(ranges, ({ authorId }) => shardOf(authorId), async (db, group) => {
    const answer = await sql<{ published_id: Id; id: Id }>`
      select newest.published_id, newest.id
      from unnest(${group.map((range) => range.authorId)}::bigint[], ${group.map((range) => range.from)}::bigint[],
        ${group.map((range) => range.before)}::bigint[], ${group.map((range) => range.onlyPulled)}::boolean[])
        as author (id, "from", before, only_pulled)
      cross join lateral (
        select published_id, id from photos
        where account_id = author.id and status = 'published'
          and published_id < author.before and published_id >= author."from" and (pull or not author.only_pulled)
        order by published_id desc limit ${rows}
      ) as newest
      order by newest.published_id desc limit ${rows}`.execute(db)
    return answer.rows.map((row) => ({ publishedId: row.published_id, photoId: row.id }))
  })
  return mergeEntries(lists, rows)
}
