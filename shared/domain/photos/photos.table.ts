import type { ColumnType, Generated, JSONColumnType } from 'kysely'
import type { Id } from '#kernel/snowflake.ts'

/** `deleted` is a row whose blobs and feed entries are being purged; to everyone it is absent. */
export type PhotoStatus = 'processing' | 'published' | 'review' | 'rejected' | 'failed' | 'removed' | 'deleted'

export type Verdict = 'clean' | 'review' | 'reject'

/** A rendition as it is stored: where its bytes are, and what they are. */
export interface StoredRendition {
  readonly name: 'thumb' | 'small' | 'medium' | 'large'
  readonly key: string
  readonly width: number
  readonly height: number
  readonly format: 'jpeg' | 'webp'
}

/** What moderators did with a photo that was held. */
export interface ModerationColumns {
  claimed_by: Id | null
  claimed_until: Date | null
  decided_by: Id | null
  decided_at: Date | null
  decision_note: string | null
}

type Timestamp = ColumnType<Date, Date | undefined, Date>

export interface PhotosTable extends ModerationColumns {
  id: Id
  account_id: Id
  status: PhotoStatus
  caption: string
  tags: string[]
  original_key: string
  original_bytes: number
  media_type: string
  width: number | null
  height: number | null
  blurhash: string | null
  taken_at: Date | null
  renditions: JSONColumnType<StoredRendition[]> | null
  verdict: Verdict | null
  verdict_detail: JSONColumnType<object> | null
  failure_code: string | null
  failure_detail: string | null
  published_id: Id | null
  /** It was published without a fan-out: readers take it from its author. */
  pull: Generated<boolean>
  fanned_out_at: Date | null
  created_at: Timestamp
  updated_at: Timestamp
}

export interface BannedHashesTable {
  /** PDQ, 64 hex digits in lower case. */
  hash: string
  note: string
  created_at: Generated<Date>
}
