import type { Test } from 'tap'
import { systemClock } from '#kernel/clock.ts'
import type { BlobStore } from '#platform/blob-store/blob-store.ts'
import { connectS3, type S3Deadlines } from '#platform/blob-store/s3-client.ts'
import { s3BlobStore } from '#platform/blob-store/s3.ts'
import { readEnvironment } from '#platform/config/environment.ts'
import { readStorage, type S3Storage } from '#platform/config/storage.ts'
import { startS3, type S3Refusal, type S3Request } from '../../scripts/stack/s3.ts'
import { onTeardown } from './teardown.ts'

/** An S3 server of one test file's own. */
export interface TestS3 {
  readonly port: number
  readonly environment: Readonly<Record<string, string>>
  /** Every request since the start, as `METHOD /bucket/key?query`. */
  readonly requests: readonly string[]
  /** The same with their headers. */
  readonly received: readonly S3Request[]
  /** The environment with another endpoint port (of a proxy before it) or prefix. */
  environmentAt(options: { port?: number; prefix?: string }): Record<string, string>
  /** Answers requests that it gives a refusal for, from now on; null ends that. */
  refuse(refusal: ((request: S3Request) => S3Refusal | null) | null): void
}

/** Starts an S3 server for a test; it is stopped at teardown. */
export async function startTestS3(t: Test): Promise<TestS3> {
  const requests: string[] = []
  const received: S3Request[] = []
  let refusal: ((request: S3Request) => S3Refusal | null) | null = null
  const server = await startS3({
    intercept(request) {
      requests.push(`${request.method} ${request.url}`)
      received.push(request)
      return refusal?.(request) ?? null
    },
  })
  onTeardown(t, () => server.stop())
  return {
    port: server.port,
    environment: server.environment,
    requests,
    received,
    environmentAt({ port = server.port, prefix = '' }) {
      const url = server.environment.STORAGE_URL.replace(`:${server.port}`, `:${port}`)
      return { ...server.environment, STORAGE_URL: url.replace('?', `/${prefix}?`) }
    },
    refuse(next) {
      refusal = next
    },
  }
}

/** The S3 storage that an environment names. */
export function s3StorageOf(env: Readonly<Record<string, string>>): S3Storage {
  const read = readEnvironment(env)
  const storage = readStorage(read, env)
  read.finish()
  if (storage.kind !== 's3') throw new TypeError('The environment names no S3 storage.')
  return storage
}

/** A store over an environment's S3 storage; its connections are closed at teardown. */
export function openTestS3Store(
  t: Test,
  env: Readonly<Record<string, string>>,
  { deadlines, clock = systemClock }: { deadlines?: S3Deadlines; clock?: typeof systemClock } = {},
): BlobStore {
  const s3 = connectS3(s3StorageOf(env), deadlines)
  t.teardown(() => s3.client.destroy())
  return s3BlobStore(s3, clock)
}
