import { readId } from '#kernel/packed-id.ts'
import { MAX_ID, type Id } from '#kernel/snowflake.ts'
import { cachedForm, readForm, readForms, tagged, TAG_BYTES, type CachedForm } from '../cached-form.ts'
import type { Context } from '../context.ts'
import type { AppRouter } from '../database.ts'
import { jsonFields, type JsonSlice } from '../splice-json.ts'
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
  /** The photo's JSON until its account. */
  readonly head: JsonSlice
  /** From there to `liked`, with a comma at the beginning alone. */
  readonly facts: JsonSlice
}

export type PhotoReadContext = Pick<Context, 'router' | 'cache' | 'config'>

/* tag (4) | account id (8) | published_id (8) | length of the JSON until the account (1) | that JSON | the rest of it */
const ACCOUNT_AT = TAG_BYTES
const PUBLISHED_AT = ACCOUNT_AT + 8
const LENGTH_AT = PUBLISHED_AT + 8
const JSON_AT = LENGTH_AT + 1
const COMMA = Buffer.from(',')
/** Of an account's photos, as many are kept: the longest first page and one that tells whether another follows. */
const PLACES_KEPT = 101

const PLACES_FORM = cachedForm('places of an account 1')

/**
 * Published photos by id. Those in other states depend on who looks, and are never kept.
 *
 * @param others takes the rows of the photos that are not published
 * @returns in the order of the ids; what is not published is undefined
 */
export async function readPhotoFragments(
  context: PhotoReadContext,
  ids: readonly Id[],
  others?: Map<Id, PhotoRow>,
): Promise<(PhotoFragment | undefined)[]> {
  if (ids.length === 0) return []
  const mediaBase = context.config.http.publicUrl ?? ''
  const form = fragmentForm(mediaBase)
  const keys = ids.map(photoKey)
  const values = await readForms(context, form, keys, async (router, missing) => {
    const idOf = new Map(ids.map((id, at) => [keys[at] ?? '', id]))
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
  return ids.map((id, at) => {
    const value = values[at]
    return value && decodeFragment(id, value)
  })
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
  if (lastForm?.mediaBase !== mediaBase) lastForm = { mediaBase, form: cachedForm(`photo 2 ${mediaBase}`) }
  return lastForm.form
}

function encodeFragment(form: CachedForm, row: PhotoRow, mediaBase: string): Buffer {
  if (row.published_id === null) throw new TypeError(`The published photo ${row.id} has no place.`)
  const json = `{"id":"${row.id}","account":`
  const head = Buffer.allocUnsafe(JSON_AT - TAG_BYTES + json.length)
  head.writeBigUInt64BE(row.account_id, ACCOUNT_AT - TAG_BYTES)
  head.writeBigUInt64BE(row.published_id, PUBLISHED_AT - TAG_BYTES)
  head[LENGTH_AT - TAG_BYTES] = json.length
  head.write(json, JSON_AT - TAG_BYTES, 'latin1')
  return tagged(form, head, COMMA, jsonFields(presentPhotoFacts(row, mediaBase)))
}

function decodeFragment(id: Id, bytes: Buffer): PhotoFragment {
  const length = bytes[LENGTH_AT] ?? 0
  const factsAt = JSON_AT + length
  return {
    id,
    accountId: readId(bytes, ACCOUNT_AT),
    publishedId: readId(bytes, PUBLISHED_AT),
    head: { bytes, start: JSON_AT, length },
    facts: { bytes, start: factsAt, length: bytes.length - factsAt },
  }
}
