import { ListObjectsV2Command } from '@aws-sdk/client-s3'
import { ProblemError } from '#kernel/errors.ts'
import type { Clock } from '#kernel/clock.ts'
import type { S3Storage } from '../config/storage.ts'
import type { Logger } from '../logger/logger.ts'
import type { OpenBlobStore } from './blob-store.ts'
import { connectS3, statusOf, type S3Connection } from './s3-client.ts'
import { s3BlobStore } from './s3.ts'

/**
 * Opens a store in S3. One that is away now, and may come back, stops no boot: only what touches blobs fails until then.
 *
 * @throws Error that names the variable when the bucket, its place or the credentials are wrong
 */
export async function openS3BlobStore(storage: S3Storage, log: Logger, clock: Clock): Promise<OpenBlobStore> {
  const s3 = connectS3(storage)
  try {
    await assertUsable(s3)
  } catch (error) {
    const cause = error instanceof ProblemError ? error.cause : error
    const advice = adviceFor(storage, cause)
    if (advice !== null) {
      s3.client.destroy()
      throw new Error(advice, { cause: error })
    }
    log.warn({ err: cause, bucket: storage.bucket }, `the bucket of ${storage.variables.bucket} cannot be reached yet`)
  }
  return { blobs: s3BlobStore(s3, clock), close: () => s3.client.destroy() }
}

/** Listing is what needs most: the bucket, its region, the credentials, and the right to list the prefix. */
async function assertUsable(s3: S3Connection): Promise<void> {
  const command = new ListObjectsV2Command({ Bucket: s3.bucket, Prefix: s3.prefix, MaxKeys: 1 })
  await s3.within(s3.deadlines.call, (limits) => s3.client.send(command, limits))
}

/** What to change, when the answer shows that something must be; null for an outage. */
function adviceFor({ bucket, prefix, region, endpoint, variables }: S3Storage, error: unknown): string | null {
  const name = error instanceof Error ? error.name : ''
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  const status = statusOf(error)
  if (status === 404 || name === 'NoSuchBucket' || name === 'InvalidBucketName') {
    return `${variables.bucket}: there is no bucket "${bucket}" at ${endpoint ?? 'Amazon S3'}.`
  }
  if (status === 301 || status === 307 || name === 'PermanentRedirect' || name === 'AuthorizationHeaderMalformed') {
    return `${variables.region}: the bucket "${bucket}" is not in the region "${region}".`
  }
  if (name === 'AccessDenied') {
    return `${variables.credentials}: they do not allow to list "${prefix}" in the bucket "${bucket}" of ${variables.bucket}.`
  }
  if (status === 401 || status === 403) {
    return `${variables.credentials}: the store does not accept them (${name}).`
  }
  if (name === 'CredentialsProviderError') {
    return `${variables.credentials}: they are not set, and this machine has no role that gives any.`
  }
  if (code === 'ENOTFOUND') {
    return `${variables.endpoint}: no server is found at ${endpoint ?? `the address of the region "${region}"`}.`
  }
  return status !== undefined && status >= 400 && status < 500 && status !== 429
    ? `${variables.bucket}: the store refuses to list the bucket "${bucket}" (${name}).`
    : null
}
