import type { buildApp } from 'fauxqs'
import { readdir, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'

type Stores = NonNullable<NonNullable<Parameters<typeof buildApp>[0]>['stores']>
type S3Files = NonNullable<Stores['s3Store']['persistence']>

/**
 * The stores of a fauxqs whose objects are files of `directory`, with what an earlier one left there. fauxqs offers
 * files only in its own server, which listens to the whole network: so its parts are put together here, as it does.
 */
export async function storesInFiles(directory: string): Promise<Stores> {
  await removeHalves(directory)
  const { SqsStore } = await partOf<{ SqsStore: new () => Stores['sqsStore'] }>('./sqs/sqsStore.js')
  const { SnsStore } = await partOf<{ SnsStore: new () => Stores['snsStore'] }>('./sns/snsStore.js')
  const { S3Store } = await partOf<{ S3Store: new () => Stores['s3Store'] }>('./s3/s3Store.js')
  const { FileS3Persistence } = await partOf<{ FileS3Persistence: new (directory: string) => S3Files }>('./s3/fileS3Persistence.js')
  const s3Store = new S3Store()
  const files = new FileS3Persistence(directory)
  files.loadS3(s3Store)
  // Only now: what is loaded need not be written again.
  s3Store.persistence = files
  return { sqsStore: new SqsStore(), snsStore: new SnsStore(), s3Store }
}

/**
 * Removes what a server that was killed may have left: uploads in parts, whose senders have gone, and descriptions that
 * are still empty, at which fauxqs would not start. Nobody was told that their objects are kept.
 */
async function removeHalves(directory: string): Promise<void> {
  await rm(join(directory, '_multipart'), { recursive: true, force: true })
  const entries = await readdir(directory, { recursive: true, withFileTypes: true }).catch(() => [])
  for (const entry of entries) {
    if (!entry.isFile() || !entry.name.endsWith('.json')) continue
    const file = join(entry.parentPath, entry.name)
    if ((await stat(file)).size === 0) await rm(file)
  }
}

async function partOf<T>(path: string): Promise<T> {
  return (await import(new URL(path, import.meta.resolve('fauxqs')).href)) as T
}
