import type { Selectable } from 'kysely'
import { problem } from '#kernel/errors.ts'
import { shardOf, type Id } from '#kernel/snowflake.ts'
import { publishEvent } from '#platform/outbox/publish.ts'
import { compileStatement } from '#platform/postgres/compiled-statement.ts'
import { anyId, gatheredById } from '#platform/postgres/gathered-read.ts'
import { addDelta } from '../counters/counters.queries.ts'
import type { AppRouter, Database, Trx } from '../database.ts'
import { writeThrough, type WriteContext } from '../write-through.ts'
import type { PhotoPlace } from './photo-places.ts'
import { photoDeleted, photoUploaded } from './photos.events.ts'
import { keysOfPhotoChange, keysOfPublication } from './photos.keys.ts'
import type { Caption } from './photos.rules.ts'
import type { ModerationColumns, PhotosTable } from './photos.table.ts'

export type PhotoRow = Omit<Selectable<PhotosTable>, keyof ModerationColumns>

const photosById = gatheredById(
  compileStatement<Database, PhotoRow>((db) =>
    db
      .selectFrom('photos')
      .select([
        'id', 'account_id', 'status', 'caption', 'tags', 'original_key', 'original_bytes', 'media_type', 'width', 'height',
        'blurhash', 'taken_at', 'renditions', 'verdict', 'verdict_detail', 'failure_code', 'failure_detail',
        'published_id', 'pull', 'fanned_out_at', 'created_at', 'updated_at',
      ])
      .where('id', '=', anyId<Id>()),
  ),
)

/**
 * Photos by id, whatever their status: with all that is asked in the same tick one statement per node, in parallel.
 * Absent ids are absent from the map. Rows are shared, and not to be changed.
 */
export async function findPhotos(router: AppRouter, ids: readonly Id[]): Promise<Map<Id, PhotoRow>> {
  const found = await router.readEach(ids, shardOf, (db, group) => photosById.many(db, group))
  return new Map(found.flat().map((row) => [row.id, row]))
}

/** A photo by id, as `findPhotos` finds it. */
export async function findPhoto(router: AppRouter, id: Id): Promise<PhotoRow | undefined> {
  return router.read(shardOf(id), (db) => photosById.one(db, id))
}

/** An account's published photos, newest publication first, published before `before` (null: from the newest). */
export async function listPublishedOf(
  router: AppRouter,
  accountId: Id,
  page: { readonly before: Id | null; readonly limit: number },
): Promise<PhotoRow[]> {
  return router.read(shardOf(accountId), (db) => {
    let query = db.selectFrom('photos').selectAll().where('account_id', '=', accountId).where('status', '=', 'published')
    if (page.before !== null) query = query.where('published_id', '<', page.before)
    return query.orderBy('published_id', 'desc').limit(page.limit).execute()
  })
}

/** The places of an account's published photos, newest publication first, before `before` (null: from the newest). */
export async function listPlacesOf(
  router: AppRouter,
  accountId: Id,
  page: { readonly before: Id | null; readonly limit: number },
): Promise<PhotoPlace[]> {
  const rows = await router.read(shardOf(accountId), (db) => {
    let query = db
      .selectFrom('photos')
      .select(['published_id', 'id'])
      .where('account_id', '=', accountId)
      .where('status', '=', 'published')
    if (page.before !== null) query = query.where('published_id', '<', page.before)
    return query.orderBy('published_id', 'desc').limit(page.limit).execute()
  })
  return rows.flatMap(({ published_id: publishedId, id }) => (publishedId === null ? [] : [{ publishedId, photoId: id }]))
}

/** What is known of a photo when its original has been stored. */
export interface NewPhoto {
  readonly id: Id
  readonly accountId: Id
  readonly caption: Caption
  readonly originalKey: string
  readonly originalBytes: number
  readonly mediaType: string
}

/**
 * Makes the photo, `processing`, with the jobs that will finish it, in the caller's transaction.
 *
 * @returns the row, or null when that id exists already: another try of the same request has made it
 */
export async function createPhoto(trx: Trx, photo: NewPhoto): Promise<PhotoRow | null> {
  const row = await trx
    .insertInto('photos')
    .values({
      id: photo.id,
      account_id: photo.accountId,
      status: 'processing',
      caption: photo.caption.text,
      tags: photo.caption.tags,
      original_key: photo.originalKey,
      original_bytes: photo.originalBytes,
      media_type: photo.mediaType,
    })
    .onConflict((conflict) => conflict.column('id').doNothing())
    .returningAll()
    .executeTakeFirst()
  if (row === undefined) return null
  await publishEvent(trx, photoUploaded, { photoId: photo.id.toString() })
  return row
}

/**
 * Gives a photo another caption.
 *
 * @throws ProblemError not_found unless `ownerId` owns a photo of that id that is not deleted
 */
export async function updateCaption(
  context: WriteContext,
  ownerId: Id,
  photoId: Id,
  caption: Caption,
): Promise<PhotoRow> {
  const row = await writeThrough(context, shardOf(photoId), (trx, stale) => {
    stale(keysOfPhotoChange(photoId))
    return trx
      .updateTable('photos')
      .set({ caption: caption.text, tags: caption.tags, updated_at: new Date() })
      .where('id', '=', photoId)
      .where('account_id', '=', ownerId)
      .where('status', '<>', 'deleted')
      .returningAll()
      .executeTakeFirst()
  })
  if (row === undefined) throw photoNotFound()
  return row
}

/**
 * Hides a photo from everyone at once; workers remove its blobs, feed entries and row.
 *
 * @returns the row as it was
 * @throws ProblemError not_found unless `ownerId` owns a photo of that id that is not deleted
 */
export async function deletePhoto(context: WriteContext, ownerId: Id, photoId: Id): Promise<PhotoRow> {
  const row = await writeThrough(context, shardOf(photoId), async (trx, stale) => {
    stale(keysOfPublication(photoId, ownerId))
    const before = await trx
      .selectFrom('photos')
      .selectAll()
      .where('id', '=', photoId)
      .where('account_id', '=', ownerId)
      .where('status', '<>', 'deleted')
      .forUpdate()
      .executeTakeFirst()
    if (before === undefined) return undefined
    await trx
      .updateTable('photos')
      .set({ status: 'deleted', updated_at: new Date() })
      .where('id', '=', photoId)
      .execute()
    if (before.status === 'published') await addDelta(trx, ownerId, 'photos', -1)
    await publishEvent(trx, photoDeleted, { photoId: photoId.toString() })
    return before
  })
  if (row === undefined) throw photoNotFound()
  return row
}

/** The one answer for a photo that is absent, hidden or not the caller's. */
export function photoNotFound(): Error {
  return problem('not_found', 'There is no such photo.')
}
