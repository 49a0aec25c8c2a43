import { sql, type RawBuilder } from 'kysely'
import type { Id } from '#kernel/snowflake.ts'
import { publishEvent } from '#platform/outbox/publish.ts'
import { addDelta } from '../counters/counters.queries.ts'
import type { Trx } from '../database.ts'
import { photoPublished } from './photos.events.ts'
import type { PhotoStatus, StoredRendition, Verdict } from './photos.table.ts'

/** What the thumbnail worker found and made. */
export interface RenditionFacts {
  readonly width: number
  readonly height: number
  readonly blurhash: string
  readonly takenAt: Date | null
  readonly renditions: readonly StoredRendition[]
}

/** Why a photo ended `failed`; shown to its owner. */
export interface Failure {
  readonly code: string
  readonly detail: string
}

/** The failure of a job that ran out of attempts: unlike the picture's own faults, a replay may still undo it. */
export const PROCESSING_FAILED: Failure = {
  code: 'processing_failed',
  detail: 'The photo could not be processed. Please upload it again.',
}

/**
 * The gate. Each worker sets its fact and the status that follows from both facts in ONE update of the photo's row:
 * the row's lock orders the two, so the second always sees the first, whichever it is and however often it comes.
 *
 * Outcomes, strongest first: failed > rejected > review > published. A photo fails as soon as either worker cannot
 * read it; every other outcome waits for both facts.
 *
 * @param publishedId the photo's place in feeds if this update publishes it: freshly minted on the photo's shard
 * @returns the status that this call gave the photo, or null when it changed nothing (redelivered, failed, deleted)
 */
export async function recordRenditions(
  trx: Trx,
  photoId: Id,
  facts: RenditionFacts,
  publishedId: Id,
): Promise<PhotoStatus | null> {
  return settle(trx, photoId, publishedId, {
    facts: sql`renditions = ${JSON.stringify(facts.renditions)}::jsonb, width = ${facts.width}, height = ${facts.height},
      blurhash = ${facts.blurhash}, taken_at = ${facts.takenAt}::timestamptz`,
    absent: sql`renditions is null`,
    hasRenditions: sql`true`,
    verdict: sql`verdict`,
  })
}

/** The gate, for the safety worker's fact; see {@link recordRenditions}. */
export async function recordVerdict(
  trx: Trx,
  photoId: Id,
  facts: { readonly verdict: Verdict; readonly detail: object },
  publishedId: Id,
): Promise<PhotoStatus | null> {
  return settle(trx, photoId, publishedId, {
    facts: sql`verdict = ${facts.verdict}, verdict_detail = ${JSON.stringify(facts.detail)}::jsonb`,
    absent: sql`verdict is null`,
    hasRenditions: sql`renditions is not null`,
    verdict: sql`${facts.verdict}::text`,
  })
}

/**
 * The gate, for a moderator: the verdict of a photo in `review`, which decides its status at once. What was published so
 * is new, however long it was held.
 *
 * @returns the status that it gave the photo, or null when the photo is not held
 */
export async function recordDecision(
  trx: Trx,
  photoId: Id,
  decision: { readonly moderatorId: Id; readonly verdict: 'clean' | 'reject'; readonly note: string },
  publishedId: Id,
): Promise<PhotoStatus | null> {
  const isClean = decision.verdict === 'clean'
  const { rows } = await sql<DecidedRow>`
    update photos set verdict = ${decision.verdict}, status = ${isClean ? 'published' : 'rejected'},
      published_id = ${isClean ? publishedId : null}::bigint, updated_at = now(),
      pull = ${isClean ? isPulled(publishedId) : sql`false`},
      decided_by = ${decision.moderatorId}, decided_at = now(), decision_note = ${decision.note}
    where id = ${photoId} and status = 'review' returning status, account_id`.execute(trx)
  return announce(trx, photoId, rows[0])
}

/**
 * Ends a photo that is still processing as `failed`.
 *
 * @returns true when this call did it
 */
export async function recordFailure(trx: Trx, photoId: Id, failure: Failure): Promise<boolean> {
  const { rows } = await sql`
    update photos set status = 'failed', failure_code = ${failure.code}, failure_detail = ${failure.detail},
      updated_at = now()
    where id = ${photoId} and ${STILL_OPEN} returning id`.execute(trx)
  return rows.length > 0
}

const STILL_OPEN = sql`(status = 'processing'
  or (status = 'failed' and failure_code = ${sql.lit(PROCESSING_FAILED.code)}))`

interface Fact {
  readonly facts: RawBuilder<unknown>
  readonly absent: RawBuilder<unknown>
  readonly hasRenditions: RawBuilder<unknown>
  readonly verdict: RawBuilder<unknown>
}

function isPublishing({ hasRenditions, verdict }: Fact): RawBuilder<boolean> {
  return sql<boolean>`((${hasRenditions}) and ${verdict} is not distinct from 'clean')`
}

/** Whether a photo that is published at that place is left to its readers: see `pull-mode.ts`. */
function isPulled(publishedId: Id): RawBuilder<boolean> {
  return sql<boolean>`exists (select from accounts a where a.id = photos.account_id and a.pull_from <= ${publishedId})`
}

async function settle(trx: Trx, photoId: Id, publishedId: Id, fact: Fact): Promise<PhotoStatus | null> {
  // Until both facts are there the status stays: a photo whose other job is dead goes on telling its owner so.
  const isComplete = sql`((${fact.hasRenditions}) and ${fact.verdict} is not null)`
  const { rows } = await sql<DecidedRow>`
    update photos set ${fact.facts}, updated_at = now(),
      failure_code = case when not ${isComplete} then failure_code end,
      failure_detail = case when not ${isComplete} then failure_detail end,
      status = case
        when not ${isComplete} then status
        when ${fact.verdict} = 'reject' then 'rejected'
        when ${fact.verdict} = 'review' then 'review'
        else 'published' end,
      published_id = case when ${isPublishing(fact)} then ${publishedId}::bigint end,
      pull = ${isPublishing(fact)} and ${isPulled(publishedId)}
    where id = ${photoId} and ${STILL_OPEN} and ${fact.absent}
    returning status, account_id`.execute(trx)
  return announce(trx, photoId, rows[0])
}

interface DecidedRow {
  readonly status: PhotoStatus
  readonly account_id: Id
}

/** What else belongs to the transaction that publishes a photo. */
async function announce(trx: Trx, photoId: Id, row: DecidedRow | undefined): Promise<PhotoStatus | null> {
  if (row === undefined) return null
  if (row.status === 'published') {
    await addDelta(trx, row.account_id, 'photos', 1)
    await publishEvent(trx, photoPublished, { photoId: photoId.toString() })
  }
  return row.status
}
