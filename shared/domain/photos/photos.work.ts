import { buffer } from 'node:stream/consumers'
import { shardOf, type Id } from '#kernel/snowflake.ts'
import type { Context } from '../context.ts'
import type { Trx } from '../database.ts'
import { writeThrough } from '../write-through.ts'
import { recordFailure, type Failure } from './photos.gate.ts'
import { keysOfPublication } from './photos.keys.ts'
import type { PhotoRow } from './photos.queries.ts'
import type { PhotoStatus } from './photos.table.ts'

/** What the thumbnail worker and the safety worker share: both read an original and bring one fact to the gate. */
type WorkContext = Pick<Context, 'router' | 'invalidations' | 'blobs' | 'ids'>

/**
 * Reads a photo's original whole (20 MB at most).
 *
 * @throws Error when the store has lost it or cannot be read: worth another attempt
 */
export async function readOriginal(context: WorkContext, photo: PhotoRow): Promise<Buffer> {
  const blob = await context.blobs.get(photo.original_key)
  if (blob === undefined) throw new Error(`The original ${photo.original_key} is not in the blob store.`)
  return buffer(blob.stream)
}

/**
 * Brings a fact to the gate in one transaction of the photo's shard, with an id ready in case it publishes.
 *
 * @returns the status it gave the photo, or null when the photo did not wait for that fact
 */
export async function bringFact(
  context: WorkContext,
  photo: Pick<PhotoRow, 'id' | 'account_id'>,
  record: (trx: Trx, publishedId: Id) => Promise<PhotoStatus | null>,
): Promise<PhotoStatus | null> {
  const shard = shardOf(photo.id)
  const publishedId = await context.ids.mint(shard)
  return writeThrough(context, shard, async (trx, stale) => {
    const given = await record(trx, publishedId)
    if (given === 'published') stale(keysOfPublication(photo.id, photo.account_id))
    return given
  })
}

/** Ends a photo as `failed`, unless it is past processing. */
export async function failPhoto(context: WorkContext, photoId: Id, failure: Failure): Promise<void> {
  await context.router.write(shardOf(photoId), (trx) => recordFailure(trx, photoId, failure))
}
