/**
 * Snowflake ids: time, place and order in one signed 64-bit integer.
 *
 *    63  62                                     23 22            10 9        0
 *   +---+-----------------------------------------+----------------+----------+
 *   | 0 |    milliseconds since 2026-01-01T00Z    |  logical shard | sequence |
 *   +---+-----------------------------------------+----------------+----------+
 *    sign  (41 bits with the sign, so 40 in use)        13 bits       10 bits
 *
 * PostgreSQL's bigint is signed and the sign bit stays 0, so 2^40 ms = 34.8 years of ids remain from
 * the epoch: the last one falls on 3 November 2060. Ids sort by time, and an id routes itself: the
 * shard bits of a photo or a comment are those of the owner's account.
 *
 * The idea is Twitter's (https://github.com/twitter-archive/snowflake); shard bits in the middle are
 * Instagram's ("Sharding & IDs at Instagram", 2012).
 */

declare const idBrand: unique symbol

/** A Snowflake id: a bigint in 0 … 2^63-1 inside the process, `id.toString()` on the wire, never a number. */
export type Id = bigint & { readonly [idBrand]: true }

/** A logical shard, 0 … `SHARD_COUNT` - 1. */
export type Shard = number

/** The three fields of an id; `ms` is Unix time in milliseconds. */
export interface IdParts {
  ms: number
  shard: Shard
  sequence: number
}

export const EPOCH_MS = Date.UTC(2026, 0, 1)
export const SHARD_BITS = 13
export const SEQUENCE_BITS = 10
export const SHARD_COUNT = 2 ** SHARD_BITS
export const SEQUENCE_COUNT = 2 ** SEQUENCE_BITS
/** The last Unix millisecond that has ids: 2060-11-03T19:53:47.775Z. */
export const LAST_MS = EPOCH_MS + 2 ** 40 - 1
export const MAX_ID = (2n ** 63n - 1n) as Id

const TIME_SHIFT = BigInt(SHARD_BITS + SEQUENCE_BITS)
const SHARD_SHIFT = BigInt(SEQUENCE_BITS)
const SHARD_MASK = SHARD_COUNT - 1
const SEQUENCE_MASK = SEQUENCE_COUNT - 1
const CANONICAL_ID = /^[1-9][0-9]{0,18}$/

/**
 * Packs the three fields into an id.
 * @throws RangeError if a field is not a whole number of its range.
 */
export function packId({ ms, shard, sequence }: IdParts): Id {
  requireWithin('shard', shard, 0, SHARD_MASK)
  requireWithin('sequence', sequence, 0, SEQUENCE_MASK)
  return (firstIdAt(ms) | (BigInt(shard) << SHARD_SHIFT) | BigInt(sequence)) as Id
}

/** Takes an id apart again: the inverse of `packId`. */
export function unpackId(id: Id): IdParts {
  return { ms: msOf(id), shard: shardOf(id), sequence: Number(id & BigInt(SEQUENCE_MASK)) }
}

/** The logical shard that an id lives on, 0 … 8191. */
export function shardOf(id: Id): Shard {
  return Number((id >> SHARD_SHIFT) & BigInt(SHARD_MASK))
}

/** The Unix time in milliseconds at which an id was minted. */
export function msOf(id: Id): number {
  return EPOCH_MS + Number(id >> TIME_SHIFT)
}

/**
 * The smallest id of a Unix millisecond, on whatever shard: the bound to compare with in "newer than" queries.
 * @throws RangeError if `ms` is before the epoch, after `LAST_MS` or not whole.
 */
export function firstIdAt(ms: number): Id {
  requireWithin('ms', ms, EPOCH_MS, LAST_MS)
  return (BigInt(ms - EPOCH_MS) << TIME_SHIFT) as Id
}

/**
 * Reads an id from text a client sent: canonical decimal (no sign, no leading zero), 1 … 2^63-1.
 * Anything else is undefined, so that a malformed id can answer like an absent one.
 */
export function parseId(text: string): Id | undefined {
  if (!CANONICAL_ID.test(text)) return undefined
  const value = BigInt(text)
  return value <= MAX_ID ? (value as Id) : undefined
}

function requireWithin(name: string, value: number, min: number, max: number): void {
  if (!Number.isInteger(value) || value < min || value > max) {
    throw new RangeError(`${name} must be a whole number from ${String(min)} to ${String(max)}, not ${String(value)}`)
  }
}
