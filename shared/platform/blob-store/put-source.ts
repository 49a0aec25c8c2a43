import { createHash } from 'node:crypto'
import { addAbortSignal, type Readable } from 'node:stream'
import { problem } from '#kernel/errors.ts'
import { contentTypeOf } from './blob-key.ts'
import type { PutOptions, StoredBlob } from './blob-store.ts'

/** What is put, read once: bounded, counted and hashed on its way. */
export interface PutSource {
  /** Throws payload_too_large before the first chunk beyond the limit, and whatever a stream fails with. */
  readonly chunks: AsyncIterable<Uint8Array>
  /** What has passed; to be asked for once, at the end. */
  stored(): StoredBlob
  /** Lets go of a stream, read to its end or not. */
  close(): void
}

/**
 * Takes charge of what is to be put under `key`. A stream that fails before anybody reads it is no uncaught error:
 * reading it tells then.
 *
 * @throws TypeError when the content type is not the one that the key stands for
 */
export function openPutSource(key: string, source: Readable | Uint8Array, options: PutOptions): PutSource {
  const { contentType, maxBytes = Infinity, signal } = options
  if (contentType !== contentTypeOf(key)) {
    throw new TypeError(`the key "${key}" stands for ${contentTypeOf(key)}, not ${contentType}`)
  }
  const isStream = !(source instanceof Uint8Array)
  if (isStream) {
    source.on('error', () => undefined)
    if (signal !== undefined) addAbortSignal(signal, source)
  }
  const hash = createHash('sha256')
  let bytes = 0
  async function* read(): AsyncGenerator<Uint8Array> {
    for await (const chunk of isStream ? (source as AsyncIterable<Buffer>) : [source]) {
      bytes += chunk.length
      if (bytes > maxBytes) throw problem('payload_too_large', `At most ${maxBytes} bytes are accepted.`)
      hash.update(chunk)
      yield chunk
    }
  }
  return {
    chunks: read(),
    stored: () => ({ bytes, sha256: hash.digest('hex') }),
    close: () => {
      if (isStream) source.destroy()
    },
  }
}
