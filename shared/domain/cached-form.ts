import { crc32 } from 'node:zlib'
import type { Cache } from '#platform/memcached/cache.ts'
import type { AppRouter } from './database.ts'

/**
 * Fetches what the cache does not have, by the router that it is given: what is to be kept is read from primaries, so that
 * no lag of a replica reaches the cache. A null says that the thing does not exist.
 */
export type FormFill = (router: AppRouter, missing: string[]) => Promise<ReadonlyMap<string, Buffer | null>>

export interface FormContext {
  readonly router: AppRouter
  readonly cache: Cache
}

/**
 * How one kind of value is laid out in the cache. Every value begins with its form's tag, so that processes of two
 * versions, or of two configurations, never read each other's: a key must stay the same for all of them, or a write of
 * one would not invalidate what the other reads.
 */
export interface CachedForm {
  /** The first four bytes of every value. */
  readonly tag: number
  readonly lifeMs?: number
}

export const TAG_BYTES = 4

/**
 * @param description whatever the bytes depend on besides the row: the layout's name and number, a setting
 * @param lifeMs how long a value may be kept; without it, as long as the cache keeps any
 */
export function cachedForm(description: string, lifeMs?: number): CachedForm {
  return { tag: crc32(description), ...(lifeMs !== undefined && { lifeMs }) }
}

/** A value of a form: the tag and then the payload. */
export function tagged(form: CachedForm, ...payload: readonly Buffer[]): Buffer {
  const head = Buffer.allocUnsafe(TAG_BYTES)
  head.writeUInt32BE(form.tag)
  return Buffer.concat([head, ...payload])
}

/**
 * Reads values of one form through the cache. A value of another form counts as missing, and is fetched without being
 * stored: it goes as all values go, and then the next reader's own form takes its place.
 *
 * @returns in the order of the keys, tag included, not to be changed; undefined for what does not exist
 */
export async function readForms(
  { router, cache }: FormContext,
  form: CachedForm,
  keys: readonly string[],
  fill: FormFill,
): Promise<(Buffer | undefined)[]> {
  const source = cache.isEnabled ? router.primaries : router
  const values = await cache.readMany(keys, (missing) => fill(source, missing), form.lifeMs === undefined ? {} : { lifeMs: form.lifeMs })
  const isForeign = (value: Buffer | undefined): boolean =>
    value !== undefined && (value.length < TAG_BYTES || value.readUInt32BE() !== form.tag)
  if (!values.some(isForeign)) return values
  const fetched = await fill(source, [...new Set(keys.filter((_, at) => isForeign(values[at])))])
  return values.map((value, at) => (isForeign(value) ? (fetched.get(keys[at] ?? '') ?? undefined) : value))
}

/** The same for one key. */
export async function readForm(
  context: FormContext,
  form: CachedForm,
  key: string,
  fill: (router: AppRouter) => Promise<Buffer | null>,
): Promise<Buffer | undefined> {
  const [value] = await readForms(context, form, [key], async (router) => new Map([[key, await fill(router)]]))
  return value
}
