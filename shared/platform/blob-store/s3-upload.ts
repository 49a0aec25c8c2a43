import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  PutObjectCommand,
  UploadPartCommand,
  type CompletedPart,
} from '@aws-sdk/client-s3'
import type { S3Connection } from './s3-client.ts'

/** The least that S3 takes for a part that is not the last. */
export const PART_BYTES = 5 * 1_024 * 1_024

/** What is the same in every request of an upload. */
export interface UploadTarget {
  readonly Bucket: string
  readonly Key: string
}

export interface UploadHeaders {
  readonly ContentType: string
  readonly CacheControl: string
}

/**
 * Uploads chunks as one object, which is there whole or not at all: in one request up to 5 MiB, above that in parts that
 * count only once all are there. A part lies in memory, so that it can be sent again; there is never more than one.
 *
 * @throws ProblemError unavailable, insufficient_storage; whatever reading the chunks throws
 */
export async function upload(
  s3: S3Connection,
  target: UploadTarget,
  headers: UploadHeaders,
  chunks: AsyncIterable<Uint8Array>,
  signal?: AbortSignal,
): Promise<void> {
  const parts = cutParts(chunks)
  const first = await parts.next()
  const body = first.done === true ? new Uint8Array(0) : first.value
  if (body.length === PART_BYTES) return uploadParts(s3, target, headers, { first: body, rest: parts }, signal)
  const command = new PutObjectCommand({ ...target, ...headers, Body: body, ContentLength: body.length })
  await s3.within(s3.deadlines.transfer, (limits) => s3.client.send(command, limits), signal)
}

interface Parts {
  readonly first: Uint8Array
  readonly rest: AsyncGenerator<Uint8Array>
}

async function uploadParts(
  s3: S3Connection,
  target: UploadTarget,
  headers: UploadHeaders,
  { first, rest }: Parts,
  signal?: AbortSignal,
): Promise<void> {
  const create = new CreateMultipartUploadCommand({ ...target, ...headers })
  const { UploadId } = await s3.within(s3.deadlines.call, (limits) => s3.client.send(create, limits), signal)
  const of = { ...target, UploadId }
  try {
    const sent: CompletedPart[] = []
    const send = async (part: Uint8Array): Promise<void> => {
      const PartNumber = sent.length + 1
      const command = new UploadPartCommand({ ...of, PartNumber, Body: part, ContentLength: part.length })
      const { ETag } = await s3.within(s3.deadlines.transfer, (limits) => s3.client.send(command, limits), signal)
      sent.push({ PartNumber, ETag })
    }
    await send(first)
    for await (const part of rest) await send(part)
    const complete = new CompleteMultipartUploadCommand({ ...of, MultipartUpload: { Parts: sent } })
    await s3.within(s3.deadlines.call, (limits) => s3.client.send(complete, limits), signal)
  } catch (error) {
    // Parts are invisible, and what this cannot remove now the sweep will.
    const abort = new AbortMultipartUploadCommand(of)
    await s3.within(s3.deadlines.call, (limits) => s3.client.send(abort, limits)).catch(() => undefined)
    throw error
  }
}

/**
 * Cuts chunks into parts, all full but the last; nothing at all gives no part. Each one is good until the next is asked
 * for: they share one buffer, whose pages take memory only as they are written, so a slow upload holds what it has sent.
 */
async function* cutParts(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const buffer = Buffer.allocUnsafeSlow(PART_BYTES)
  let filled = 0
  for await (const chunk of chunks) {
    for (let taken = 0; taken < chunk.length; ) {
      const piece = chunk.subarray(taken, taken + PART_BYTES - filled)
      buffer.set(piece, filled)
      filled += piece.length
      taken += piece.length
      if (filled < PART_BYTES) continue
      yield buffer
      filled = 0
    }
  }
  if (filled > 0) yield buffer.subarray(0, filled)
}
