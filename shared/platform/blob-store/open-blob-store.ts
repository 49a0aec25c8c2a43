import type { Clock } from '#kernel/clock.ts'
import type { StorageConfig } from '../config/storage.ts'
import type { Logger } from '../logger/logger.ts'
import type { OpenBlobStore } from './blob-store.ts'
import { diskBlobStore } from './disk.ts'

/**
 * Opens the store of the configuration. The SDK of S3 is loaded only where it is used.
 *
 * @throws Error that names the variable when the store is not to be used like that
 */
export async function openBlobStore(storage: StorageConfig, log: Logger, clock: Clock): Promise<OpenBlobStore> {
  if (storage.kind === 'disk') {
    return { blobs: diskBlobStore({ directory: storage.directory, clock }), close: () => undefined }
  }
  const { openS3BlobStore } = await import('./open-s3.ts')
  return openS3BlobStore(storage, log, clock)
}
