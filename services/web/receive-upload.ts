import type { Multipart } from '@fastify/multipart'
import { createHash } from 'node:crypto'
import { Readable } from 'node:stream'
import { problem, type ProblemError } from '#kernel/errors.ts'
import { CAPTION_CHARACTERS_MAX, UPLOAD_BYTES_MAX } from '#domain/photos/photos.rules.ts'
import { extensionOf } from '#platform/blob-store/blob-key.ts'
import type { BlobStore } from '#platform/blob-store/blob-store.ts'
import { readHeader } from '#platform/images/header.ts'
import { IMAGE_HEADER_BYTES, MAX_IMAGE_PIXELS } from '#platform/images/limits.ts'
import { sniffMediaType, type ImageMediaType } from '#platform/images/sniff.ts'

/** A code point takes four bytes at most, and the exact bound on characters is checked later. */
const CAPTION_BYTES_MAX = CAPTION_CHARACTERS_MAX * 4 + 1

/**
 * Limits for the multipart parser, a little over what is allowed: so that one byte, file or field too many is seen and
 * answered for what it is.
 */
export const UPLOAD_LIMITS = {
  fileSize: UPLOAD_BYTES_MAX + 1,
  files: 4,
  fields: 8,
  fieldSize: CAPTION_BYTES_MAX,
  headerPairs: 32,
} as const

/** A request's file and caption, read to their end. */
export interface ReceivedUpload {
  readonly caption: string
  readonly file: ReceivedFile | null
  /** What is wrong with it, if anything; the body was read nonetheless, so its fingerprint is known. */
  readonly refusal: ProblemError | null
}

export interface ReceivedFile {
  readonly sha256: string
  readonly bytes: number
  /** Where it is stored; null when it was refused or had no destination. */
  readonly stored: { readonly key: string; readonly mediaType: ImageMediaType } | null
}

/** Where a file goes: into the store under a name that gets its extension, or (null) nowhere, to be compared only. */
export type Destination = { readonly blobs: BlobStore; readonly name: string } | null

/**
 * Reads the parts `file` and `caption?`, in any order, streaming the file into its destination while its first
 * bytes are checked. A file that is refused is read to its end and not kept.
 *
 * @throws ProblemError payload_too_large over 20 MB, and whatever the store throws
 */
export async function receiveUpload(
  parts: AsyncIterable<Multipart>,
  destination: Destination,
): Promise<ReceivedUpload> {
  let file: ReceivedFile | null = null
  let caption = ''
  let refusal: ProblemError | null = null
  for await (const part of parts) {
    if (part.type === 'file' && part.fieldname === 'file' && file === null) {
      const received = await receiveFile(part.file, destination)
      file = received.file
      refusal ??= received.refusal
    } else if (part.type === 'field' && part.fieldname === 'caption' && typeof part.value === 'string') {
      caption = part.value
      if (part.valueTruncated) refusal ??= fieldProblem('caption', 'too_long', 'is too long')
    } else {
      if (part.type === 'file') part.file.resume()
      refusal ??= fieldProblem(part.fieldname, 'unknown', 'is not a field of an upload, or not of that type, or comes twice')
    }
  }
  if (file === null) refusal ??= fieldProblem('file', 'required', 'is required: the picture, as a file part')
  return { caption, file, refusal }
}

async function receiveFile(
  stream: Readable,
  destination: Destination,
): Promise<{ file: ReceivedFile; refusal: ProblemError | null }> {
  const { prefix, whole } = await peek(stream)
  const mediaType = sniffMediaType(prefix)
  const refusal = judge(mediaType, prefix)
  if (destination === null || refusal !== null || mediaType === undefined) {
    const read = await hashAway(whole)
    if (read.bytes > UPLOAD_BYTES_MAX) throw problem('payload_too_large', 'The file is larger than 20 MB.')
    return { file: { ...read, stored: null }, refusal }
  }
  const key = `${destination.name}.${extensionOf(mediaType) ?? 'bin'}`
  const put = await destination.blobs.put(key, whole, { contentType: mediaType, maxBytes: UPLOAD_BYTES_MAX })
  return { file: { ...put, stored: { key, mediaType } }, refusal: null }
}

function judge(mediaType: ImageMediaType | undefined, prefix: Buffer): ProblemError | null {
  if (mediaType === undefined) {
    return problem('unsupported_media_type', 'The file does not begin like a JPEG, PNG, WebP or AVIF picture.')
  }
  const header = readHeader(prefix)
  if (header !== undefined && header.width * header.height > MAX_IMAGE_PIXELS) {
    const detail = `The picture is ${header.width} × ${header.height}; at most 50 megapixels are allowed.`
    return problem('too_many_pixels', detail)
  }
  return null
}

/** Reads until the picture's header is known or cannot come any more; `whole` begins with those bytes again. */
async function peek(stream: Readable): Promise<{ prefix: Buffer; whole: Readable }> {
  const chunks = stream[Symbol.asyncIterator]() as AsyncIterator<Buffer>
  let prefix: Buffer = Buffer.alloc(0)
  while (prefix.length < IMAGE_HEADER_BYTES && readHeader(prefix) === undefined) {
    const next = await chunks.next()
    if (next.done === true) break
    prefix = prefix.length === 0 ? next.value : Buffer.concat([prefix, next.value])
  }
  async function* replay(): AsyncGenerator<Buffer> {
    if (prefix.length > 0) yield prefix
    yield* { [Symbol.asyncIterator]: () => chunks }
  }
  return { prefix, whole: Readable.from(replay(), { objectMode: false }) }
}

async function hashAway(stream: Readable): Promise<{ sha256: string; bytes: number }> {
  const hash = createHash('sha256')
  let bytes = 0
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    hash.update(chunk)
    bytes += chunk.length
  }
  return { sha256: hash.digest('hex'), bytes }
}

function fieldProblem(field: string, code: string, message: string): ProblemError {
  return problem('invalid_request', `The field ${JSON.stringify(field.slice(0, 64))} ${message}.`, {
    errors: [{ path: `/body/${field.slice(0, 64)}`, code, message }],
  })
}
