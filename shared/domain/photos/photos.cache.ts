import { MAX_ID, type Id } from '#kernel/snowflake.ts'
import { cachedForm, readForm, readForms, tagged, TAG_BYTES, type CachedForm } from '../cached-form.ts'
import type { Context } from '../context.ts'
import type { AppRouter } from '../database.ts'
import { jsonFields } from '../splice-json.ts'
import { packPlaces, unpackPlaces, type PlaceStretch } from './photo-places.ts'
import { accountPlacesKey, photoKey } from './photos.keys.ts'
import { presentPhotoFacts } from './photos.presenter.ts'
import { findPhotos, listPlacesOf, type PhotoRow } from './photos.queries.ts'

/**
 * A published photo as everyone may see it, rendered: what depends on its author's profile or on who looks is spliced
 * in later.
 */
export interface PhotoFragment {
  readonly id: Id
  readonly accountId: Id
  readonly publishedId: Id
  /** The fields of the photo's JSON between `account` and `liked`, without a comma at either end. */
  readonly facts: Buffer
}

export type PhotoReadContext = Pick<Context, 'router' | 'cache' | 'config'>

/** What a fragment begins with: tag, account id, published_id. */
const FRAGMENT_HEAD_BYTES = TAG_BYTES + 16
/** Of an account's photos, as many are kept: the longest first page and one that tells whether another follows. */
const PLACES_KEPT = 101

const PLACES_FORM = cachedForm('places of an account 1')

/**
 * Published photos by id. Those in other states depend on who looks, and are never kept.
 *
 * @param others takes the rows, fresh from the primary, of the photos that are not published
 * @returns by id; what is not published is absent
 */
export async function readPhotoFragments(
  context: PhotoReadContext,
  ids: readonly Id[],
  others?: Map<Id, PhotoRow>,
): Promise<Map<Id, PhotoFragment>> {
  if (ids.length === 0) return new Map()
  const mediaBase = context.config.http.publicUrl ?? ''
  const form = fragmentForm(mediaBase)
  const idOf = new Map(ids.map((id) => [photoKey(id), id]))
  const values = await readForms(context, form, [...idOf.keys()], async (router, missing) => {
    const wanted = missing.flatMap((key) => idOf.get(key) ?? [])
    const rows = await findPhotos(router, wanted)
    const filled = new Map<string, Buffer | null>()
    for (const id of wanted) {
      const row = rows.get(id)
      if (row === undefined || row.status === 'deleted') filled.set(photoKey(id), null)
      else if (row.status === 'published') filled.set(photoKey(id), encodeFragment(form, row, mediaBase))
      else others?.set(id, row)
    }
    return filled
  })
  const fragments = new Map<Id, PhotoFragment>()
  for (const [key, id] of idOf) {
    const value = values.get(key)
    if (value !== undefined) fragments.set(id, decodeFragment(id, value))
  }
  return fragments
}

/** An account's published photos, as places, newest first, before `before` (null: from the newest). */
export async function readPlacesOf(
  context: Pick<Context, 'router' | 'cache'>,
  accountId: Id,
  page: { readonly before: Id | null; readonly limit: number },
): Promise<PlaceStretch> {
  const { router, cache } = context
  const read = async (source: AppRouter, before: Id | null, limit: number): Promise<PlaceStretch> => {
    const places = await listPlacesOf(source, accountId, { before, limit })
    return { places, ended: places.length < limit }
  }
  // Reading ahead pays only where the rest is kept.
  if (!cache.isEnabled) return read(router, page.before, page.limit)
  const kept = await readForm(context, PLACES_FORM, accountPlacesKey(accountId), async (source) =>
    tagged(PLACES_FORM, packPlaces(await read(source, null, PLACES_KEPT))),
  )
  const wanted = { before: page.before ?? MAX_ID, rows: page.limit }
  return (kept && unpackPlaces(kept, TAG_BYTES, wanted)) ?? read(router, page.before, page.limit)
}

let lastForm: { readonly mediaBase: string; readonly form: CachedForm } | undefined

/** A fragment has media URLs in it, which begin as the configuration says. */
function fragmentForm(mediaBase: string): CachedForm {
  if (lastForm?.mediaBase !== mediaBase) lastForm = { mediaBase, form: cachedForm(`photo 1 ${mediaBase}`) }
  return lastForm.form
}

function encodeFragment(form: CachedForm, row: PhotoRow, mediaBase: string): Buffer {
  if (row.published_id === null) throw new TypeError(`The published photo ${row.id} has no place.`)
  const head = Buffer.allocUnsafe(FRAGMENT_HEAD_BYTES)
  head.writeUInt32BE(form.tag)
  head.writeBigUInt64BE(row.account_id, TAG_BYTES)
  head.writeBigUInt64BE(row.published_id, TAG_BYTES + 8)
  return Buffer.concat([head, jsonFields(presentPhotoFacts(row, mediaBase))])
}

function decodeFragment(id: Id, value: Buffer): PhotoFragment {
  return {
    id,
    accountId: value.readBigUInt64BE(TAG_BYTES) as Id,
    publishedId: value.readBigUInt64BE(TAG_BYTES + 8) as Id,
    facts: value.subarray(FRAGMENT_HEAD_BYTES),
  }
}
