import type { Readable } from 'node:stream'

/**
 * Where photos live. A key names one immutable blob: `photos/123/1080.jpg`. What is put is there whole and durable,
 * or not at all.
 */
export interface BlobStore {
  /**
   * Stores a blob, replacing what was there.
   *
   * @param source bytes, or a stream of unknown length; a stream that fails or is cut short leaves nothing
   * @throws ProblemError payload_too_large above `maxBytes`, insufficient_storage when there is no room,
   *   unavailable when the store cannot be reached in time
   */
  put(key: string, source: Readable | Uint8Array, options: PutOptions): Promise<StoredBlob>
  /**
   * Opens a blob, or a part of it; undefined when there is none. The stream must be read or destroyed.
   *
   * @throws ProblemError range_not_satisfiable when the range begins beyond the end, unavailable
   */
  get(key: string, options?: GetOptions): Promise<OpenBlob | undefined>
  /** Removes a blob; it need not exist. */
  delete(key: string): Promise<void>
  /** Removes every blob whose key begins with `prefix`, which ends in `/`. */
  deletePrefix(prefix: string): Promise<void>
  /**
   * Lists the blobs whose key begins with `prefix`, which ends in `/`, in the order of their keys.
   *
   * @param page at most `limit` of them, whose keys come after `after`; fewer only when there are no more
   */
  list(prefix: string, page: ListPage): Promise<ListedBlob[]>
  /** Removes what puts cut short by a crash have left behind, if older than `olderThanMs`; gives how many. */
  sweep(olderThanMs: number): Promise<number>
  /**
   * A URL that anybody may fetch the blob from for `lifeSeconds`, in stores that have such a thing; undefined when
   * there is no such blob.
   */
  signedUrl?(key: string, lifeSeconds: number): Promise<string | undefined>
  /** The origin of those URLs, for whoever must allow it beforehand. */
  signedOrigin?(): Promise<string>
}

/** A store and the end of its connections. */
export interface OpenBlobStore {
  readonly blobs: BlobStore
  close(): void
}

export interface PutOptions {
  /** Must be the type that the key's extension stands for. */
  readonly contentType: string
  readonly maxBytes?: number
  /** Aborting it abandons the put. */
  readonly signal?: AbortSignal
}

export interface ListPage {
  readonly limit: number
  readonly after?: string
}

export interface ListedBlob {
  readonly key: string
  /** When it was put, in Unix milliseconds. */
  readonly storedAtMs: number
}

export interface StoredBlob {
  readonly bytes: number
  /** In lower-case hexadecimal. */
  readonly sha256: string
}

/** The bytes from `start` to `end`, both included, as in a Range header; to the last byte without `end`. */
export interface ByteRange {
  readonly start: number
  readonly end?: number
}

export interface GetOptions {
  readonly range?: ByteRange
}

export interface OpenBlob {
  readonly stream: Readable
  /** The length of `stream`. */
  readonly bytes: number
  /** The length of the whole blob. */
  readonly totalBytes: number
  readonly contentType: string
}
