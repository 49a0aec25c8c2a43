import { setTimeout as wait } from 'node:timers/promises'
import { sql } from 'kysely'
import { ProblemError } from '#kernel/errors.ts'
import { openIdSource } from '#platform/id-lease/holder.ts'
import { createLedger, serverSenses, type LedgerSenses } from '#platform/id-lease/ledger.ts'
import type { LeaseSource } from '#platform/id-lease/lease-source.ts'
import { withFallback } from '#platform/id-lease/with-fallback.ts'
import { createLogger } from '#platform/logger/logger.ts'
import { openPool } from '#platform/postgres/pool.ts'
import { openBroker, type Broker } from '#platform/rabbitmq/broker.ts'
import { rabbitLeaseSource } from '#platform/rabbitmq/lease-source.ts'
import { serveLeases } from '#platform/rabbitmq/serve-leases.ts'
import { topologyOf } from '#platform/rabbitmq/topology.ts'

/**
 * A process that mints ids as fast as it can and tells its parent of each, or an allocator. It is made of what ours are
 * made of, except that time passes faster, here and in the ledger alike, so that leases end in seconds.
 */
export interface MintingOptions {
  readonly role: 'minter' | 'allocator'
  readonly databaseUrl: string
  readonly brokerUrl: string | null
  readonly name: string
  readonly laneWidth: number
  readonly rate: number
}

/** What a minter tells. */
export type MintingNews = { readonly ids: BigUint64Array } | { readonly refusal: string }

/** What the ledger's server senses where time is fast: see `fast_time` in `minting-world.ts`. */
export const fastSenses: LedgerSenses = {
  ...serverSenses,
  nowMs: sql`(select floor(id_ms + (extract(epoch from clock_timestamp()) * 1000 - real_ms) * rate) from fast_time)`,
}

const SHARDS = 4
const BATCH = 64
const PAUSE_MS = 4
const REFUSED_PAUSE_MS = 20

async function run(options: MintingOptions): Promise<void> {
  const log = createLogger({ process: options.name, level: 'silent' })
  const db = openPool<unknown>({ url: options.databaseUrl, max: 2, applicationName: options.name }, log)
  const broker = options.brokerUrl === null ? undefined : await openBroker({ url: options.brokerUrl, topology: topologyOf([]), name: options.name, log })
  const ledger = createLedger(db, fastSenses)
  if (options.role === 'minter') return mint(options, sourceOf(broker, ledger))
  if (broker === undefined) throw new Error('An allocator without a broker grants nothing.')
  serveLeases(broker, ledger, log)
  process.send?.({ refusal: 'ready' } satisfies MintingNews)
}

function sourceOf(broker: Broker | undefined, ledger: LeaseSource): LeaseSource {
  return broker === undefined ? ledger : withFallback(rabbitLeaseSource(broker), ledger, fastClock)
}

let rate = 1
let rateSince = { realMs: performance.now(), fastMs: 0 }
const fastClock = { monotonicMs: () => rateSince.fastMs + (performance.now() - rateSince.realMs) * rate }

function setRate(next: number): void {
  rateSince = { realMs: performance.now(), fastMs: fastClock.monotonicMs() }
  rate = next
}

async function mint({ name, laneWidth }: MintingOptions, source: LeaseSource): Promise<void> {
  const sleep = async (ms: number, signal?: AbortSignal): Promise<void> => {
    await wait(ms / rate, undefined, signal && { signal }).catch(() => undefined)
  }
  const log = createLogger({ process: name, level: 'silent' })
  const ids = openIdSource({ source, holder: name, laneWidth, log, clock: fastClock, sleep })
  for (;;) {
    const batch = new BigUint64Array(BATCH)
    try {
      for (let i = 0; i < BATCH; i++) batch[i] = await ids.mint(i % SHARDS)
      process.send?.({ ids: batch } satisfies MintingNews)
      await wait(PAUSE_MS)
    } catch (error) {
      if (!(error instanceof ProblemError)) throw error
      process.send?.({ refusal: `${error.status} ${error.code}: ${error.detail}` } satisfies MintingNews)
      await wait(REFUSED_PAUSE_MS)
    }
  }
}

const [options] = process.argv.slice(2)
if (import.meta.main && options !== undefined) {
  const parsed = JSON.parse(options) as MintingOptions
  setRate(parsed.rate)
  process.on('message', (message: { rate: number }) => setRate(message.rate))
  process.on('disconnect', () => process.exit())
  await run(parsed)
}
