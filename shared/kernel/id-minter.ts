import { EPOCH_MS, LAST_MS, SEQUENCE_BITS, SEQUENCE_COUNT, SHARD_BITS, SHARD_COUNT, type Id, type Shard } from './snowflake.ts'

/** What a lease grants: a range of sequence numbers times an interval of id time (Unix milliseconds). */
export interface Rectangle {
  readonly firstSequence: number
  readonly sequenceCount: number
  /** The first millisecond inside. */
  readonly fromMs: number
  /** The first millisecond no longer inside. */
  readonly untilMs: number
}

/**
 * Why there is no id now. `wait`: the lane is used up in this millisecond on this shard; the next one has room.
 * `early` and `expired`: it is not yet, or no longer, the rectangle's time.
 */
export type NoId = 'wait' | 'early' | 'expired'

/** Mints the ids of one rectangle, for all shards. */
export interface IdMinter {
  readonly rectangle: Rectangle
  /**
   * The next id of a shard, or why there is none. Ids of one shard rise strictly.
   * @throws RangeError if there is no such shard
   */
  mint(shard: Shard): Id | NoId
  /** Moves the end of the rectangle; an end that is earlier than before is ignored. */
  extend(untilMs: number): void
  /** The end of what was used: one past the last millisecond that has an id; `fromMs` if none has. */
  usedUntilMs(): number
}

const SHARD_SEQUENCE_BITS = SHARD_BITS + SEQUENCE_BITS
/** How many bits of the time share the low 32-bit word with shard and sequence. */
const LOW_TIME_BITS = 32 - SHARD_SEQUENCE_BITS
const LOW_TIME_MASK = 2 ** LOW_TIME_BITS - 1
const HIGH_WORD_MS = 2 ** LOW_TIME_BITS
const LITTLE_ENDIAN = new Uint8Array(Uint32Array.of(1).buffer)[0] === 1
const LOW_WORD = LITTLE_ENDIAN ? 0 : 1
const HIGH_WORD = LITTLE_ENDIAN ? 1 : 0

/**
 * Makes the minter of a rectangle. It never mints outside, never the same id twice and never wraps: a lane that is
 * full waits for the next millisecond. When `now` steps back it goes on in the last millisecond that it used.
 *
 * The two 32-bit halves of an id are put together as plain numbers and read out as one bigint, and the bits of the time
 * are worked out once a millisecond: shifting bigints would allocate one for every step.
 *
 * @param now Unix milliseconds, whole
 * @throws RangeError if the rectangle is empty or reaches outside what ids can hold
 */
export function createIdMinter(rectangle: Rectangle, now: () => number): IdMinter {
  const { firstSequence, sequenceCount, fromMs } = rectangle
  const endSequence = firstSequence + sequenceCount
  let { untilMs } = rectangle
  requireValid(rectangle)

  const lastMsOf = new Float64Array(SHARD_COUNT)
  const nextSequenceOf = new Uint16Array(SHARD_COUNT)
  const words = new Uint32Array(2)
  const packed = new BigUint64Array(words.buffer)
  /** The millisecond, inside the rectangle, whose bits `words` and `lowTimeBits` hold. */
  let wordsMs = 0
  let lowTimeBits = 0

  return {
    get rectangle() {
      return { ...rectangle, untilMs }
    },

    mint(shard) {
      const lastMs = lastMsOf[shard]
      if (lastMs === undefined) throw new RangeError(`There is no logical shard ${shard}.`)
      let ms = now()
      let sequence = firstSequence
      if (ms <= lastMs) {
        ms = lastMs
        sequence = nextSequenceOf[shard] ?? endSequence
        if (sequence === endSequence) return 'wait'
      }
      if (ms !== wordsMs) {
        if (!Number.isInteger(ms)) throw new RangeError(`Ids need whole milliseconds, not ${ms}.`)
        if (ms < fromMs) return 'early'
        if (ms >= untilMs) return 'expired'
        const idMs = ms - EPOCH_MS
        lowTimeBits = (idMs & LOW_TIME_MASK) << SHARD_SEQUENCE_BITS
        words[HIGH_WORD] = idMs / HIGH_WORD_MS
        wordsMs = ms
      }
      lastMsOf[shard] = ms
      nextSequenceOf[shard] = sequence + 1
      words[LOW_WORD] = lowTimeBits | (shard << SEQUENCE_BITS) | sequence
      return packed[0] as Id
    },

    extend(newUntilMs) {
      requireValid({ ...rectangle, untilMs: newUntilMs })
      untilMs = Math.max(untilMs, newUntilMs)
    },

    usedUntilMs: () => lastMsOf.reduce((latest, ms) => Math.max(latest, ms + 1), fromMs),
  }
}

function requireValid({ firstSequence, sequenceCount, fromMs, untilMs }: Rectangle): void {
  const sequences = firstSequence >= 0 && sequenceCount > 0 && firstSequence + sequenceCount <= SEQUENCE_COUNT
  const period = fromMs >= EPOCH_MS && untilMs > fromMs && untilMs <= LAST_MS + 1
  const whole = [firstSequence, sequenceCount, fromMs, untilMs].every(Number.isInteger)
  if (!sequences || !period || !whole) throw new RangeError('The rectangle is empty or reaches outside what ids can hold.')
}
