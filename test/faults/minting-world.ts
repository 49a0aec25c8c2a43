import { fork } from 'node:child_process'
import { once } from 'node:events'
import type { Test } from 'tap'
import { msOf, type Id } from '#kernel/snowflake.ts'
import { eventually } from '../support/eventually.ts'
import { onTeardown } from '../support/teardown.ts'
import { runSql } from '../support/tier-server.ts'
import type { MintingNews, MintingOptions } from './minting-process.ts'

const PROCESS = 'test/faults/minting-process.ts'

export interface Minter {
  /** Every id that it has told of. */
  readonly ids: bigint[]
  readonly refusals: string[]
  signal(signal: 'SIGSTOP' | 'SIGCONT'): void
  kill(): Promise<void>
}

/** Real processes that mint, on a ledger whose time passes fast. */
export interface MintingWorld {
  start(options: Pick<MintingOptions, 'name'> & Partial<MintingOptions>): Promise<Minter>
  /** The ledger's clock, in Unix milliseconds. */
  nowMs(): Promise<number>
  /** Steps the ledger's clock. */
  step(ms: number): Promise<void>
  setRate(rate: number): Promise<void>
  /** Waits until each has minted ids of that time or later. */
  mintedAt(ms: number, ...minters: Minter[]): Promise<void>
  /** How many ids were made in all, and the first that was made twice. */
  outcome(): { count: number; double: bigint | undefined }
}

/** Makes the table that says how time passes; `url` is asked for it wherever it leads by then. */
export async function startMintingWorld(t: Test, url: string, { brokerUrl = null, rate = 1 }: { brokerUrl?: string | null; rate?: number } = {}): Promise<MintingWorld> {
  const realMs = `extract(epoch from clock_timestamp()) * 1000`
  await runSql(url, `create table fast_time as select ${realMs} as id_ms, ${realMs} as real_ms, ${rate}::float8 as rate`)
  const minters: Minter[] = []
  const senders: ((rate: number) => void)[] = []
  let presentRate = rate

  async function start(own: Pick<MintingOptions, 'name'> & Partial<MintingOptions>): Promise<Minter> {
    const options: MintingOptions = { role: 'minter', databaseUrl: url, brokerUrl, laneWidth: 8, rate: presentRate, ...own }
    const child = fork(PROCESS, [JSON.stringify(options)], { serialization: 'advanced', execArgv: [] })
    const ended = once(child, 'exit')
    const kill = async (): Promise<void> => {
      child.kill('SIGKILL')
      await ended
    }
    onTeardown(t, kill)
    const minter: Minter = { ids: [], refusals: [], signal: (signal) => child.kill(signal), kill }
    child.on('message', (news: MintingNews) => {
      if ('ids' in news) for (const id of news.ids) minter.ids.push(id)
      else minter.refusals.push(news.refusal)
    })
    senders.push((next) => {
      if (child.connected) child.send({ rate: next })
    })
    minters.push(minter)
    await eventually(`${options.name} says something`, () => Promise.resolve(minter.ids.length + minter.refusals.length > 0 ? true : undefined))
    return minter
  }

  return {
    start,
    async nowMs() {
      const [row] = await runSql<{ ms: number }>(url, `select (id_ms + (${realMs} - real_ms) * rate)::float8 as ms from fast_time`)
      return row?.ms ?? NaN
    },
    async step(ms) {
      await runSql(url, 'update fast_time set id_ms = id_ms + $1', [ms])
    },
    async setRate(next) {
      presentRate = next
      await runSql(url, `update fast_time set id_ms = id_ms + (${realMs} - real_ms) * rate, real_ms = ${realMs}, rate = $1`, [next])
      for (const send of senders) send(next)
    },
    async mintedAt(ms, ...which) {
      await eventually(`ids of ${new Date(ms).toISOString()}`, () => {
        return Promise.resolve(which.every(({ ids }) => msOf((ids.at(-1) ?? 0n) as Id) >= ms) ? true : undefined)
      })
    },
    outcome() {
      const all = BigUint64Array.from(minters.flatMap(({ ids }) => ids)).sort()
      return { count: all.length, double: all.find((id, at) => at > 0 && id === all[at - 1]) }
    },
  }
}
