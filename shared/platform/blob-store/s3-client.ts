import { S3Client, S3ServiceException } from '@aws-sdk/client-s3'
import { problem, type ProblemError } from '#kernel/errors.ts'
import type { S3Storage } from '../config/storage.ts'

/** How long one operation may take, its retries included, and one try of it. */
export interface Deadline {
  readonly totalMs: number
  readonly attemptMs: number
}

/** Deadlines by the size of what travels. A client waits for the sum of a few of them: a router gives up after 30 s. */
export interface S3Deadlines {
  /** Of a request with at most a part of a blob in it. */
  readonly transfer: Deadline
  /** Of one without. */
  readonly call: Deadline
}

export const S3_DEADLINES: S3Deadlines = {
  transfer: { totalMs: 12_000, attemptMs: 8_000 },
  call: { totalMs: 5_000, attemptMs: 2_000 },
}

/** What each request of the SDK is sent with. */
export interface RequestLimits {
  readonly abortSignal: AbortSignal
  readonly requestTimeout: number
}

export interface S3Connection {
  readonly client: S3Client
  readonly bucket: string
  /** Empty, or with a slash at its end. */
  readonly prefix: string
  readonly deadlines: S3Deadlines
  /**
   * Runs one operation within a deadline.
   *
   * @throws ProblemError as `toStorageProblem` says; the signal's reason once that is aborted
   */
  readonly within: <T>(deadline: Deadline, work: (limits: RequestLimits) => Promise<T>, signal?: AbortSignal) => Promise<T>
}

/** The first try and two more, after 50 to 200 ms; a budget of the SDK's keeps an outage from tripling the load. */
const ATTEMPTS_MAX = 3
const CONNECT_DEADLINE_MS = 2_000
/** A body that stops coming for so long has ended. */
const BODY_IDLE_MS = 10_000
const SOCKETS_MAX = 64
const RETRY_AFTER_SECONDS = 5
const OTHER_ABSENCES = new Set(['NoSuchBucket', 'NoSuchUpload'])
const NO_ROOM = new Set(['QuotaExceeded', 'InsufficientCapacity', 'XMinioStorageFull'])

/** Connects to nothing yet: sockets are opened when they are needed. */
export function connectS3(storage: S3Storage, deadlines: S3Deadlines = S3_DEADLINES): S3Connection {
  // Checksums that S3 has by now are strange to many who speak its protocol: only Amazon's own gets them unasked.
  const checksums = storage.endpoint === null ? 'WHEN_SUPPORTED' : 'WHEN_REQUIRED'
  const { credentials } = storage
  const client = new S3Client({
    region: storage.region,
    ...(storage.endpoint !== null && { endpoint: storage.endpoint }),
    forcePathStyle: storage.pathStyle,
    requestChecksumCalculation: checksums,
    responseChecksumValidation: checksums,
    ...(credentials !== null && {
      credentials: {
        accessKeyId: credentials.accessKeyId,
        secretAccessKey: credentials.secretAccessKey,
        ...(credentials.sessionToken !== null && { sessionToken: credentials.sessionToken }),
      },
    }),
    retryMode: 'standard',
    maxAttempts: ATTEMPTS_MAX,
    requestHandler: {
      connectionTimeout: CONNECT_DEADLINE_MS,
      requestTimeout: deadlines.transfer.attemptMs,
      throwOnRequestTimeout: true,
      socketTimeout: BODY_IDLE_MS,
      httpAgent: { maxSockets: SOCKETS_MAX },
      httpsAgent: { maxSockets: SOCKETS_MAX },
    },
  })
  return { client, bucket: storage.bucket, prefix: storage.prefix, deadlines, within: runWithin }
}

async function runWithin<T>(
  deadline: Deadline,
  work: (limits: RequestLimits) => Promise<T>,
  signal?: AbortSignal,
): Promise<T> {
  signal?.throwIfAborted()
  const late = new AbortController()
  const timer = setTimeout(() => late.abort(), deadline.totalMs)
  const abortSignal = signal === undefined ? late.signal : AbortSignal.any([late.signal, signal])
  try {
    return await work({ abortSignal, requestTimeout: deadline.attemptMs })
  } catch (error) {
    signal?.throwIfAborted()
    throw toStorageProblem(error)
  } finally {
    clearTimeout(timer)
  }
}

/** The HTTP status that an S3 server answered with; undefined when it did not answer. */
export function statusOf(error: unknown): number | undefined {
  return error instanceof S3ServiceException ? error.$metadata.httpStatusCode : undefined
}

/** True when there is no blob of that key, though the bucket is there. (To HEAD, S3 gives no name for what is absent.) */
export function isNoSuchKey(error: unknown): boolean {
  return error instanceof S3ServiceException && statusOf(error) === 404 && !OTHER_ABSENCES.has(error.name)
}

/**
 * What a client can be told of a failure: a store that is full (507), or one that did not do its work in time (503).
 * Answers with a meaning (404 of a key, 416) and faults of the program are left as they are.
 */
function toStorageProblem(error: unknown): ProblemError | Error {
  if (error instanceof TypeError || isNoSuchKey(error) || statusOf(error) === 416) return error as Error
  if (statusOf(error) === 507 || (error instanceof Error && NO_ROOM.has(error.name))) {
    return problem('insufficient_storage', 'The photo store is full.', { cause: error })
  }
  return problem('unavailable', 'The photo store cannot be reached at the moment.', {
    cause: error,
    retryAfterSeconds: RETRY_AFTER_SECONDS,
  })
}
