import { Snowflake } from '@sapphire/snowflake'
import Snowflakify from 'snowflakify'
import { createIdMinter } from '#kernel/id-minter.ts'
import type { IdMinter } from '#kernel/id-minter.ts'
import { EPOCH_MS, LAST_MS, SEQUENCE_COUNT, SHARD_COUNT } from '#kernel/snowflake.ts'
import { compareRounds, printRates, ratioBetween, timeRate } from './rounds.ts'

/**
 * Ids of one thread, kept in a BigUint64Array, against Date.now() alone and against what npm offers: the fastest
 * library that never repeats an id, and the fastest of all, which at this rate does. Every minter here reads the
 * clock for every id. The end is a count, not a time: repeats in ten million ids with overflow and clock steps.
 */
const IDS = 2_000_000
const ROUNDS = 7
const CHECKED_IDS = 10_000_000
const LANE_WIDTH = 8
const SHARD_MASK = SHARD_COUNT - 1

const CEILING = 'Date.now() alone (ceiling)'
const OURS = 'our minter, a lane of 8'
const BIGINT = 'the same layout by bigint shifts'
const UNIQUE_PEER = 'snowflakify'
const FAST_PEER = '@sapphire/snowflake'

const ids = new BigUint64Array(IDS)
let checksum = 0

/** A rate and, of the last round, how many ids came twice. */
interface Peer {
  readonly run: () => Promise<number>
  repeats: number
}

function peer(next: (n: number) => bigint): Peer {
  const made: Peer = {
    repeats: 0,
    run: async () => {
      const rate = await timeRate(IDS, () => {
        for (let n = 0; n < IDS; n++) ids[n] = next(n)
      })
      made.repeats = countRepeats(ids)
      return rate
    },
  }
  return made
}

/** Sorts the ids in place and counts those that are equal to the one before. */
function countRepeats(sorted: BigUint64Array): number {
  sorted.sort()
  let repeats = 0
  for (let n = 1; n < sorted.length; n++) if (sorted[n] === sorted[n - 1]) repeats++
  return repeats
}

function readClock(): void {
  let sum = 0
  for (let n = 0; n < IDS; n++) sum += Date.now()
  checksum += sum
}

/** Ten million ids over 100 shards, too many for the lane, while the clock steps an hour forth and five seconds back. */
function checkUniqueness(): { repeats: number; waits: number } {
  const checked = new BigUint64Array(CHECKED_IDS)
  let ms = Date.now()
  let waits = 0
  const minter = laneMinter(() => ms)
  for (let minted = 0; minted < CHECKED_IDS; ) {
    const id = minter.mint(minted % 100)
    if (typeof id === 'bigint') {
      checked[minted++] = id
      if (minted % 3_000_000 === 0) ms += 3_600_000
      if (minted % 1_000_000 === 0) ms -= 5_000
    } else {
      waits++
      ms++
    }
  }
  return { repeats: countRepeats(checked), waits }
}

function laneMinter(now: () => number): IdMinter {
  const firstSequence = SEQUENCE_COUNT - LANE_WIDTH
  return createIdMinter({ firstSequence, sequenceCount: LANE_WIDTH, fromMs: EPOCH_MS, untilMs: LAST_MS }, now)
}

const minter = laneMinter(Date.now)
const snowflakify = new Snowflakify()
const sapphire = new Snowflake(EPOCH_MS)

const peers = {
  [OURS]: peer((n) => {
    for (;;) {
      const id = minter.mint(n & SHARD_MASK)
      if (typeof id === 'bigint') return id
    }
  }),
  [BIGINT]: peer((n) => {
    const sequence = BigInt((n >> 13) & (SEQUENCE_COUNT - 1))
    return (BigInt(Date.now() - EPOCH_MS) << 23n) | (BigInt(n & SHARD_MASK) << 10n) | sequence
  }),
  [UNIQUE_PEER]: peer(() => snowflakify.nextId()),
  [FAST_PEER]: peer(() => sapphire.generate()),
}

const runs = Object.fromEntries(Object.entries(peers).map(([name, { run }]) => [name, run]))
const rates = await compareRounds({ [CEILING]: () => timeRate(IDS, readClock), ...runs }, { rounds: ROUNDS })
printRates('ids/s, one thread', rates)
for (const name of [UNIQUE_PEER, FAST_PEER]) {
  console.log(`ours is ${ratioBetween(rates, OURS, name).toFixed(1)} times ${name}`)
}
for (const [name, { repeats }] of Object.entries(peers)) {
  console.log(`${name}: ${repeats.toLocaleString('en-US')} repeats in ${IDS.toLocaleString('en-US')}`)
}
const { repeats, waits } = checkUniqueness()
console.log(
  `with overflow and clock steps: ${repeats} repeats in ${CHECKED_IDS.toLocaleString('en-US')} ids, ${waits.toLocaleString('en-US')} waits`,
)
if (repeats > 0 || Number.isNaN(checksum)) process.exitCode = 1
