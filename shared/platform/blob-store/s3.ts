import {
  AbortMultipartUploadCommand,
  DeleteObjectCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListMultipartUploadsCommand,
  ListObjectsV2Command,
  type GetObjectCommandOutput,
  type _Object,
} from '@aws-sdk/client-s3'
import { getSignedUrl } from '@aws-sdk/s3-request-presigner'
import { Readable } from 'node:stream'
import { systemClock, type Clock } from '#kernel/clock.ts'
import { problem, ProblemError } from '#kernel/errors.ts'
import { assertBlobKey, assertBlobPrefix, contentTypeOf } from './blob-key.ts'
import type { BlobStore, ByteRange, ListedBlob, ListPage, OpenBlob } from './blob-store.ts'
import { openPutSource } from './put-source.ts'
import { isNoSuchKey, statusOf, type S3Connection } from './s3-client.ts'
import { upload, type UploadTarget } from './s3-upload.ts'

const LIST_KEYS_MAX = 1_000
const DELETES_AT_ONCE = 8
/** A browser that has followed a signed URL may keep what it got: a key's bytes never change. */
const CACHE_CONTROL = 'private, max-age=31536000, immutable'

/** Blobs as private objects of one bucket, below a prefix. */
export function s3BlobStore(s3: S3Connection, clock: Clock = systemClock): BlobStore {
  const { client, within, deadlines } = s3
  const target = (key: string): UploadTarget => ({ Bucket: s3.bucket, Key: s3.prefix + key })

  async function remove(object: UploadTarget): Promise<void> {
    const command = new DeleteObjectCommand(object)
    await within(deadlines.call, (limits) => client.send(command, limits)).catch(undefinedIfAbsent)
  }

  /** The objects below a prefix, a page at a time; only those after a key, if one is given. */
  async function* objectsBelow(prefix: string, { limit, after }: ListPage): AsyncGenerator<_Object[]> {
    const page = {
      Bucket: s3.bucket,
      Prefix: s3.prefix + prefix,
      MaxKeys: Math.min(limit, LIST_KEYS_MAX),
      ...(after !== undefined && { StartAfter: s3.prefix + after }),
    }
    let token: string | undefined
    do {
      const command = new ListObjectsV2Command({ ...page, ...(token !== undefined && { ContinuationToken: token }) })
      const listed = await within(deadlines.call, (limits) => client.send(command, limits))
      yield listed.Contents ?? []
      token = listed.NextContinuationToken
    } while (token !== undefined)
  }

  return {
    async put(key, source, options) {
      assertBlobKey(key)
      const opened = openPutSource(key, source, options)
      try {
        const headers = { ContentType: options.contentType, CacheControl: CACHE_CONTROL }
        await upload(s3, target(key), headers, opened.chunks, options.signal)
        return opened.stored()
      } finally {
        opened.close()
      }
    },

    async get(key, { range } = {}) {
      assertBlobKey(key)
      const command = new GetObjectCommand({ ...target(key), ...(range !== undefined && { Range: rangeHeader(range) }) })
      const found = await within(deadlines.transfer, (limits) => client.send(command, limits)).catch(undefinedIfAbsent)
      return found === undefined ? undefined : openBlob(key, found, range)
    },

    async delete(key) {
      assertBlobKey(key)
      await remove(target(key))
    },

    async deletePrefix(prefix) {
      assertBlobPrefix(prefix)
      // One by one: the request for many is the one that S3-compatible servers disagree on (its checksum), or lack.
      for await (const objects of objectsBelow(prefix, { limit: LIST_KEYS_MAX })) {
        const rest = objects.values()
        const work = async (): Promise<void> => {
          for (const { Key } of rest) if (Key !== undefined) await remove({ Bucket: s3.bucket, Key })
        }
        await Promise.all(Array.from({ length: DELETES_AT_ONCE }, work))
      }
    },

    async list(prefix, page) {
      assertBlobPrefix(prefix)
      const listed: ListedBlob[] = []
      for await (const objects of objectsBelow(prefix, page)) {
        for (const { Key, LastModified } of objects) {
          if (Key !== undefined && LastModified !== undefined) {
            listed.push({ key: Key.slice(s3.prefix.length), storedAtMs: LastModified.getTime() })
          }
        }
        if (listed.length >= page.limit) break
      }
      return listed.slice(0, page.limit)
    },

    async sweep(olderThanMs) {
      let removed = 0
      let from: { KeyMarker?: string; UploadIdMarker?: string } | undefined = {}
      while (from !== undefined) {
        const command: ListMultipartUploadsCommand = new ListMultipartUploadsCommand({ Bucket: s3.bucket, Prefix: s3.prefix, ...from })
        const page = await within(deadlines.call, (limits) => client.send(command, limits))
        for (const { Key, UploadId, Initiated } of page.Uploads ?? []) {
          if (Initiated === undefined || Initiated.getTime() > clock.nowMs() - olderThanMs) continue
          const abort = new AbortMultipartUploadCommand({ Bucket: s3.bucket, Key, UploadId })
          await within(deadlines.call, (limits) => client.send(abort, limits)).catch(ignoreIfOver)
          removed++
        }
        from = page.IsTruncated === true ? markersOf(page) : undefined
      }
      return removed
    },

    async signedUrl(key, lifeSeconds) {
      assertBlobKey(key)
      const head = new HeadObjectCommand(target(key))
      const found = await within(deadlines.call, (limits) => client.send(head, limits)).catch(undefinedIfAbsent)
      return found && getSignedUrl(client, new GetObjectCommand(target(key)), { expiresIn: lifeSeconds })
    },

    async signedOrigin() {
      return new URL(await getSignedUrl(client, new GetObjectCommand(target('any')))).origin
    },
  }
}

function markersOf(page: { NextKeyMarker?: string | undefined; NextUploadIdMarker?: string | undefined }): object {
  return { KeyMarker: page.NextKeyMarker, UploadIdMarker: page.NextUploadIdMarker }
}

function rangeHeader({ start, end }: ByteRange): string {
  if (start < 0 || (end !== undefined && end < start)) throw problem('range_not_satisfiable', 'The range is empty.')
  return `bytes=${start}-${end ?? ''}`
}

function openBlob(key: string, found: GetObjectCommandOutput, range: ByteRange | undefined): OpenBlob {
  const { Body: stream, ContentLength: bytes, ContentRange } = found
  if (!(stream instanceof Readable) || bytes === undefined) throw new TypeError('S3 answered without a body.')
  // It may break before the reader listens, which must not be an uncaught error: reading it tells then.
  stream.on('error', () => undefined)
  const totalBytes = range === undefined ? bytes : Number(/\/(\d+)$/.exec(ContentRange ?? '')?.[1])
  if (Number.isNaN(totalBytes)) {
    stream.destroy()
    throw problem('unavailable', 'The photo store did not give the part asked for.')
  }
  return { stream, bytes, totalBytes, contentType: contentTypeOf(key) }
}

/** For `.catch` on an operation: no such key is a result; a range beyond the end is the reader's mistake. */
function undefinedIfAbsent(error: unknown): undefined {
  if (statusOf(error) === 416) throw problem('range_not_satisfiable', 'The range lies outside the resource.')
  if (!isNoSuchKey(error)) throw error
  return undefined
}

/** For `.catch` on an abort: the upload may have ended meanwhile. */
function ignoreIfOver(error: unknown): void {
  if (!(error instanceof ProblemError && statusOf(error.cause) === 404)) throw error
}
