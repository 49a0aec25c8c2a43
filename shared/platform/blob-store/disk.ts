import { randomUUID } from 'node:crypto'
import { constants } from 'node:fs'
import { mkdir, open, readdir, rename, rm, stat, unlink, type FileHandle } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { Readable } from 'node:stream'
import { systemClock, type Clock } from '#kernel/clock.ts'
import { problem } from '#kernel/errors.ts'
import { assertBlobKey, assertBlobPrefix, contentTypeOf } from './blob-key.ts'
import type { BlobStore, ByteRange, ListedBlob, OpenBlob, PutOptions, StoredBlob } from './blob-store.ts'
import { openPutSource, type PutSource } from './put-source.ts'

export interface DiskBlobStoreOptions {
  /** Made if it is not there. Temporary files lie in its `.tmp`, so that a rename never crosses file systems. */
  readonly directory: string
  readonly clock?: Clock
  /** Opens the temporary file of a put: for tests of a disk that is full. */
  readonly openTemporary?: (path: string) => Promise<FileHandle>
}

const TEMPORARY_DIRECTORY = '.tmp'
/** A rename may find that a deletePrefix has just taken the directory away. */
const RENAME_ATTEMPTS = 3

/**
 * Blobs as plain files below a directory. A put writes a temporary file, forces it to the disk, renames it into
 * place and forces the directory: after a crash the blob is there whole or not at all.
 */
export function diskBlobStore(options: DiskBlobStoreOptions): BlobStore {
  const { directory, clock = systemClock, openTemporary = openNew } = options
  const temporaries = join(directory, TEMPORARY_DIRECTORY)

  async function put(key: string, source: Readable | Uint8Array, options: PutOptions): Promise<StoredBlob> {
    assertBlobKey(key)
    const opened = openPutSource(key, source, options)
    const temporary = join(temporaries, randomUUID())
    await mkdir(temporaries, { recursive: true })
    try {
      await write(await openTemporary(temporary), opened)
      await moveIntoPlace(temporary, join(directory, key))
      return opened.stored()
    } catch (error) {
      await rm(temporary, { force: true })
      throw isDiskFull(error) ? problem('insufficient_storage', 'The disk is full.', { cause: error }) : error
    } finally {
      opened.close()
    }
  }

  async function get(key: string, { range }: { range?: ByteRange } = {}): Promise<OpenBlob | undefined> {
    assertBlobKey(key)
    const file = await open(join(directory, key), constants.O_RDONLY).catch(undefinedIfAbsent)
    if (file === undefined) return undefined
    try {
      const found = await file.stat()
      if (!found.isFile()) {
        await file.close()
        return undefined
      }
      const totalBytes = found.size
      const { start, bytes } = within(totalBytes, range)
      // `end` is included, so a stream cannot be told to read nothing; of an empty file it reads nothing anyway.
      const stream = file.createReadStream({ start, end: Math.max(start, start + bytes - 1) })
      return { stream, bytes, totalBytes, contentType: contentTypeOf(key) }
    } catch (error) {
      await file.close()
      throw error
    }
  }

  /** The keys below a prefix that come after `after`, in order. The names of one directory are in memory at a time. */
  async function* keysBelow(prefix: string, after: string): AsyncGenerator<string> {
    const entries = (await readdir(join(directory, prefix), { withFileTypes: true }).catch(undefinedIfAbsent)) ?? []
    // With its slash, as `/` comes after `-` and `.` in keys.
    for (const key of entries.map((entry) => prefix + entry.name + (entry.isDirectory() ? '/' : '')).sort()) {
      if (!key.endsWith('/')) {
        if (key > after) yield key
      } else if (key > after || after.startsWith(key)) {
        yield* keysBelow(key, after)
      }
    }
  }

  return {
    put,
    get,
    async delete(key) {
      assertBlobKey(key)
      await unlink(join(directory, key)).catch(undefinedIfAbsent)
    },
    async deletePrefix(prefix) {
      assertBlobPrefix(prefix)
      await rm(join(directory, prefix), { recursive: true, force: true, maxRetries: 3 })
    },
    async list(prefix, { limit, after = '' }) {
      assertBlobPrefix(prefix)
      const listed: ListedBlob[] = []
      for await (const key of keysBelow(prefix, after)) {
        if (listed.length === limit) break
        const found = await stat(join(directory, key)).catch(undefinedIfAbsent)
        if (found !== undefined) listed.push({ key, storedAtMs: found.mtimeMs })
      }
      return listed
    },
    async sweep(olderThanMs) {
      const names = (await readdir(temporaries).catch(undefinedIfAbsent)) ?? []
      let removed = 0
      for (const name of names) {
        const path = join(temporaries, name)
        const found = await stat(path).catch(undefinedIfAbsent)
        if (found === undefined || found.mtimeMs > clock.nowMs() - olderThanMs) continue
        await rm(path, { force: true })
        removed++
      }
      return removed
    },
  }
}

async function openNew(path: string): Promise<FileHandle> {
  return open(path, 'wx', 0o640)
}

/** Writes and closes the file; on the disk when it returns. */
async function write(file: FileHandle, source: PutSource): Promise<void> {
  try {
    for await (const chunk of source.chunks) await writeAll(file, chunk)
    await file.datasync()
  } finally {
    await file.close()
  }
}

/** A write to a file may be short, on a disk that is nearly full for one. */
async function writeAll(file: FileHandle, chunk: Uint8Array): Promise<void> {
  for (let offset = 0; offset < chunk.length; ) {
    const { bytesWritten } = await file.write(chunk, offset)
    offset += bytesWritten
  }
}

/** Renames durably: the new name is on the disk, and so are the directories that had to be made for it. */
async function moveIntoPlace(temporary: string, path: string): Promise<void> {
  const parent = dirname(path)
  for (let attempt = 1; ; attempt++) {
    const made = await mkdir(parent, { recursive: true })
    try {
      await rename(temporary, path)
      await syncUpTo(parent, made === undefined ? parent : dirname(made))
      return
    } catch (error) {
      if (!isAbsent(error) || attempt === RENAME_ATTEMPTS) throw error
    }
  }
}

/** Forces a directory and its ancestors up to `last`. */
async function syncUpTo(directory: string, last: string): Promise<void> {
  for (let path = directory; ; path = dirname(path)) {
    const handle = await open(path, constants.O_RDONLY)
    try {
      await handle.sync()
    } finally {
      await handle.close()
    }
    if (path === last || path === dirname(path)) return
  }
}

function within(totalBytes: number, range: ByteRange | undefined): { start: number; bytes: number } {
  if (range === undefined) return { start: 0, bytes: totalBytes }
  const { start, end = totalBytes - 1 } = range
  if (start < 0 || start >= totalBytes || end < start) {
    throw problem('range_not_satisfiable', `The resource has ${totalBytes} bytes.`)
  }
  return { start, bytes: Math.min(end, totalBytes - 1) - start + 1 }
}

function isAbsent(error: unknown): boolean {
  return codeOf(error) === 'ENOENT' || codeOf(error) === 'ENOTDIR'
}

function isDiskFull(error: unknown): boolean {
  return codeOf(error) === 'ENOSPC' || codeOf(error) === 'EDQUOT'
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && 'code' in error ? error.code : undefined
}

/** For `.catch` on a file operation: no such file is a result. */
function undefinedIfAbsent(error: unknown): undefined {
  if (!isAbsent(error)) throw error
  return undefined
}
