import { readId } from '#kernel/packed-id.ts'
import type { Id } from '#kernel/snowflake.ts'

/** A published photo's place in feeds and profiles: published_id is its order and identity. */
export interface PhotoPlace {
  readonly publishedId: Id
  readonly photoId: Id
}

/** A stretch of places, newest first. */
export interface PlaceStretch {
  readonly places: readonly PhotoPlace[]
  /** True when nothing comes after the last place. */
  readonly ended: boolean
}

const ID_BYTES = 8
const PLACE_BYTES = 2 * ID_BYTES

/** Packs a stretch: a byte for its end, then 16 for each place. */
export function packPlaces({ places, ended }: PlaceStretch): Buffer {
  const packed = Buffer.allocUnsafe(1 + places.length * PLACE_BYTES)
  packed[0] = ended ? 1 : 0
  for (const [index, { publishedId, photoId }] of places.entries()) {
    const at = 1 + index * PLACE_BYTES
    packed.writeBigUInt64BE(publishedId, at)
    packed.writeBigUInt64BE(photoId, at + ID_BYTES)
  }
  return packed
}

/**
 * The places of a packed stretch that come after `before` (a published_id), `rows` of them at most.
 *
 * @param packed what `packPlaces` gave, from `start` on
 * @returns undefined when the stretch is too short to tell
 */
export function unpackPlaces(
  packed: Buffer,
  start: number,
  { before, rows }: { readonly before: Id; readonly rows: number },
): PlaceStretch | undefined {
  const places: PhotoPlace[] = []
  for (let at = start + 1; at < packed.length; at += PLACE_BYTES) {
    const publishedId = readId(packed, at)
    if (publishedId >= before) continue
    if (places.length === rows) return { places, ended: false }
    places.push({ publishedId, photoId: readId(packed, at + ID_BYTES) })
  }
  const ended = packed[start] === 1
  return ended || places.length === rows ? { places, ended } : undefined
}
