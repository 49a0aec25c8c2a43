import { sql } from 'kysely'
import type { Id } from '#kernel/snowflake.ts'
import type { AppRouter } from '../database.ts'

/** An author some of whose photos are pulled, and the places (published_ids, inclusive) between which they lie. */
export interface PulledAuthor {
  readonly authorId: Id
  readonly first: Id
  /** Null: there may be more. */
  readonly last: Id | null
}

/** All of them: some thousands at the most, as each has had ten thousand followers within three months. */
export async function listPulledAuthors({ directory }: AppRouter): Promise<PulledAuthor[]> {
  const rows = await directory.primary
    .selectFrom('pulled_authors')
    .select(['author_id', 'first_published_id', 'last_published_id'])
    .execute()
  return rows.map((row) => ({ authorId: row.author_id, first: row.first_published_id, last: row.last_published_id }))
}

/** Tells readers to pull an author's photos from a place on, without an end. */
export async function openPulledAuthor({ directory }: AppRouter, authorId: Id, first: Id, epoch: number): Promise<void> {
  await sql`
    insert into pulled_authors as p (author_id, first_published_id, epoch) values (${authorId}, ${first}, ${epoch})
    on conflict (author_id) do update set first_published_id = least(p.first_published_id, excluded.first_published_id),
      last_published_id = null, epoch = greatest(p.epoch, excluded.epoch), opened_at = now()`.execute(directory.primary)
}

/** Tells readers that no later photo is to be pulled, unless the row has been opened for a later epoch. */
export async function closePulledAuthor({ directory }: AppRouter, authorId: Id, last: Id, epoch: number): Promise<void> {
  await directory.primary
    .updateTable('pulled_authors')
    .set({ last_published_id: last })
    .where('author_id', '=', authorId)
    .where('last_published_id', 'is', null)
    .where('epoch', '<=', epoch)
    .execute()
}

/** Authors whose rows have been open since `before` or longer. */
export async function listOpenSince({ directory }: AppRouter, before: Date): Promise<Id[]> {
  const rows = await directory.primary
    .selectFrom('pulled_authors')
    .select('author_id')
    .where('last_published_id', 'is', null)
    .where('opened_at', '<', before)
    .execute()
  return rows.map((row) => row.author_id)
}

/** Forgets authors whose pulled photos all lie below `floor`, where readers take every photo from its author. */
export async function dropPulledAuthors({ directory }: AppRouter, floor: Id): Promise<void> {
  await directory.primary.deleteFrom('pulled_authors').where('last_published_id', '<', floor).execute()
}
