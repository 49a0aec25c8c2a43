import type { Multipart } from '@fastify/multipart'
import { randomBytes } from 'node:crypto'
import { problem, ProblemError, type ErrorCode } from '#kernel/errors.ts'
import { shardOf, type Id } from '#kernel/snowflake.ts'
import { presentAccountSummary } from '#domain/accounts/accounts.presenter.ts'
import type { Context } from '#domain/context.ts'
import {
  fingerprint,
  finishKey,
  releaseKey,
  startKey,
  type KeyState,
} from '#domain/idempotency/idempotency.queries.ts'
import { keysOfPhotoChange } from '#domain/photos/photos.keys.ts'
import { presentPhoto, type PhotoJson } from '#domain/photos/photos.presenter.ts'
import { createPhoto } from '#domain/photos/photos.queries.ts'
import { originalsFolder, parseCaption } from '#domain/photos/photos.rules.ts'
import { retellWrite, writeThrough } from '#domain/write-through.ts'
import { isRolledBack } from '#platform/postgres/database-errors.ts'
import { receiveUpload, type ReceivedUpload } from './receive-upload.ts'

export interface UploadRequest {
  readonly accountId: Id
  readonly key: string | null
  /** Begins to read the body. */
  parts(): AsyncIterable<Multipart>
}

const ACCEPTED_STATUS = 202
const KEPT_STATUSES = new Set([409, 422])

/**
 * POST /photos: the original goes to the blob store, then one transaction on the account's shard makes the photo,
 * its two jobs and the kept answer. What is refused leaves neither a row nor a blob.
 *
 * @throws ProblemError for every refusal of the contract: 400, 409, 413, 415, 422
 */
export async function acceptUpload(context: Context, request: UploadRequest): Promise<PhotoJson> {
  const mintId = (): Promise<Id> => context.ids.mint(shardOf(request.accountId))
  if (request.key === null) return storeUpload(context, request, await mintId())

  const owner = { accountId: request.accountId, key: request.key }
  const state = await startKey(context.router, owner, mintId)
  if (state.kind === 'running') throw inProgress(state.retryAfterSeconds)
  if (state.kind === 'done') {
    const upload = await receiveUpload(request.parts(), null)
    return replayAnswer(context, request, state, fingerprintOf(context, upload))
  }
  try {
    return await storeUpload(context, request, state.resourceId)
  } catch (error) {
    // Does nothing when an answer was kept, so it is right also after a COMMIT whose reply was lost.
    await releaseKey(context.router, owner, state.hold).catch((released: unknown) => {
      context.log.warn({ err: released }, 'the key of an upload that failed stays locked until its hold runs out')
    })
    throw error
  }
}

function inProgress(retryAfterSeconds: number): ProblemError {
  return problem('idempotency_in_progress', 'The first request with this Idempotency-Key is still running.', {
    retryAfterSeconds,
  })
}

async function storeUpload(context: Context, request: UploadRequest, photoId: Id): Promise<PhotoJson> {
  // Each try has a folder of its own, so that two tries of one key never touch each other's blob.
  const folder = `${originalsFolder(photoId)}${randomBytes(8).toString('hex')}/`
  const dropOriginal = (): Promise<void> =>
    context.blobs.deletePrefix(folder).catch((error: unknown) => {
      context.log.warn({ err: error, folder }, 'the original of a refused upload was left behind')
    })

  let upload: ReceivedUpload
  try {
    upload = await receiveUpload(request.parts(), { blobs: context.blobs, name: `${folder}original` })
    await refuse(context, request, photoId, upload)
  } catch (error) {
    await dropOriginal()
    throw error
  }
  const photo = await recordPhoto(context, request, photoId, upload).catch(async (error: unknown) => {
    if (error instanceof KeyLostError) return null
    // If the outcome is unknown the blob stays: a COMMIT whose reply was lost may have made the photo. If it did not,
    // house-keeping finds the blob.
    if (error instanceof ProblemError || isRolledBack(error)) await dropOriginal()
    throw error
  })
  if (photo !== null) return photo

  await dropOriginal()
  return replayOther(context, request, photoId, fingerprintOf(context, upload))
}

/** Throws what is wrong with the upload, if anything, and keeps that answer where the contract says so. */
async function refuse(
  context: Context,
  request: UploadRequest,
  resourceId: Id,
  upload: ReceivedUpload,
): Promise<void> {
  const refusal = upload.refusal ?? captionProblem(upload.caption)
  if (refusal === null) return
  const { accountId, key } = request
  if (key !== null && KEPT_STATUSES.has(refusal.status)) {
    const answer = { status: refusal.status, body: { code: refusal.code, detail: refusal.detail } }
    await context.router.write(shardOf(accountId), (trx) =>
      finishKey(trx, { accountId, key, resourceId }, fingerprintOf(context, upload), answer),
    )
  }
  throw refusal
}

function captionProblem(caption: string): ProblemError | null {
  try {
    parseCaption(caption)
    return null
  } catch (error) {
    if (error instanceof ProblemError) return error
    throw error
  }
}

/** The key has another answer, or stands for another photo, since we began: this one must not be made. */
class KeyLostError extends Error {
  override readonly name = 'KeyLostError'
}

/**
 * Gives null when another try with the same key has made the photo already.
 *
 * @throws KeyLostError
 */
async function recordPhoto(
  context: Context,
  request: UploadRequest,
  photoId: Id,
  upload: ReceivedUpload,
): Promise<PhotoJson | null> {
  const { accountId, key } = request
  const stored = upload.file?.stored
  if (stored === undefined || stored === null) throw new TypeError('An upload that is not refused has a stored file.')
  return writeThrough(context, shardOf(accountId), async (trx, stale) => {
    stale(keysOfPhotoChange(photoId))
    const account = await trx
      .selectFrom('accounts')
      .select(['id', 'username', 'display_name'])
      .where('id', '=', accountId)
      .where('status', '=', 'active')
      .executeTakeFirst()
    if (account === undefined) throw problem('unauthorized', 'The account of this token is gone.')
    const row = await createPhoto(trx, {
      id: photoId,
      accountId,
      caption: parseCaption(upload.caption),
      originalKey: stored.key,
      originalBytes: upload.file?.bytes ?? 0,
      mediaType: stored.mediaType,
    })
    if (row === null) return null
    const photo = presentPhoto(row, presentAccountSummary(account), context.config.http.publicUrl ?? '')
    if (key !== null) {
      const answer = { status: ACCEPTED_STATUS, body: photo }
      const isKept = await finishKey(trx, { accountId, key, resourceId: photoId }, fingerprintOf(context, upload), answer)
      if (!isKept) throw new KeyLostError()
    }
    return photo
  })
}

async function replayOther(context: Context, request: UploadRequest, photoId: Id, print: string): Promise<PhotoJson> {
  const { accountId, key } = request
  if (key !== null) {
    const state = await startKey(context.router, { accountId, key }, () => Promise.resolve(photoId))
    if (state.kind === 'done') return replayAnswer(context, request, state, print)
    if (state.kind === 'running') throw inProgress(state.retryAfterSeconds)
  }
  throw problem('unavailable', 'The upload met another one of the same id; please try again.', { retryAfterSeconds: 1 })
}

async function replayAnswer(
  context: Context,
  { accountId }: UploadRequest,
  state: KeyState & { readonly kind: 'done' },
  print: string,
): Promise<PhotoJson> {
  if (state.fingerprint !== print) {
    throw problem('idempotency_mismatch', 'This Idempotency-Key came with another request before.')
  }
  if (state.answer.status === ACCEPTED_STATUS) {
    await retellWrite(context, shardOf(accountId), keysOfPhotoChange(state.resourceId))
    return state.answer.body as PhotoJson
  }
  const { code, detail } = state.answer.body as { code: ErrorCode; detail: string }
  throw problem(code, detail)
}

function fingerprintOf(context: Context, upload: ReceivedUpload): string {
  return fingerprint(context.config.secretKey, ['POST /v1/photos', upload.file?.sha256 ?? '', upload.caption])
}
