import { msOf } from '#kernel/snowflake.ts'
import type { AccountSummary } from '../accounts/accounts.presenter.ts'
import type { PhotoRow } from './photos.queries.ts'
import type { PhotoStatus, StoredRendition } from './photos.table.ts'

/** A photo as the API gives it. */
export interface PhotoJson {
  readonly id: string
  readonly account: AccountSummary
  readonly status: Exclude<PhotoStatus, 'deleted'>
  readonly failure: { readonly code: string; readonly detail: string } | null
  readonly caption: string
  readonly tags: string[]
  readonly width: number | null
  readonly height: number | null
  readonly takenAt: string | null
  readonly createdAt: string
  readonly publishedAt: string | null
  readonly blurhash: string | null
  readonly renditions: RenditionJson[]
  readonly likeCount: number
  readonly commentCount: number
  readonly liked: boolean
}

export interface RenditionJson {
  readonly name: StoredRendition['name']
  readonly url: string
  readonly width: number
  readonly height: number
  readonly format: StoredRendition['format']
}

/** A photo's own facts: what stands between `account` and `liked`, and is the same for everyone. */
export type PhotoFacts = Omit<PhotoJson, 'id' | 'account' | 'liked'>

/**
 * Renders a photo.
 *
 * @param mediaBase what media URLs begin with: `''`, or the public URL without a trailing slash
 */
export function presentPhoto(row: PhotoRow, account: AccountSummary, mediaBase: string): PhotoJson {
  return { id: row.id.toString(), account, ...presentPhotoFacts(row, mediaBase), liked: false }
}

/**
 * Renders a photo's own facts, in the order of the contract; its pictures and measures are shown once it is no longer
 * processing. Nothing can be liked or commented on yet, so those counts are nought.
 *
 * @param mediaBase as for `presentPhoto`
 */
export function presentPhotoFacts(row: PhotoRow, mediaBase: string): PhotoFacts {
  if (row.status === 'deleted') throw new TypeError(`The photo ${row.id} is deleted and has no presentation.`)
  const measured = row.status !== 'processing' && row.renditions !== null
  return {
    status: row.status,
    failure:
      row.failure_code === null ? null : { code: row.failure_code, detail: row.failure_detail ?? '' },
    caption: row.caption,
    tags: row.tags,
    width: measured ? row.width : null,
    height: measured ? row.height : null,
    takenAt: measured ? (row.taken_at?.toISOString() ?? null) : null,
    createdAt: row.created_at.toISOString(),
    publishedAt: row.published_id === null ? null : new Date(msOf(row.published_id)).toISOString(),
    blurhash: measured ? row.blurhash : null,
    renditions: measured
      ? (row.renditions ?? []).map(({ key, ...rendition }) => ({
          name: rendition.name,
          url: `${mediaBase}/${key}`,
          width: rendition.width,
          height: rendition.height,
          format: rendition.format,
        }))
      : [],
    likeCount: 0,
    commentCount: 0,
  }
}
