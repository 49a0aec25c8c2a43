import { setTimeout as delay } from 'node:timers/promises'
import type { Logger } from '../logger/logger.ts'

/** Work that has to be done now and then, by whichever worker comes first; safe to run many times at once. */
export interface Chore {
  readonly name: string
  readonly intervalMs: number
  /** Does a bounded part; true when there is more, which is then done without waiting for the interval. */
  run(): Promise<boolean>
}

export interface HouseKeeper {
  /** Begins to run every chore, now and at its interval. */
  start(): void
  /** Runs every chore once, in turn and to its end. For tests. @throws what a chore throws */
  runOnce(): Promise<void>
  /** Starts nothing more and waits for the chores that run; each is bounded. */
  close(): Promise<void>
}

/** Parts of a chore that are done in a row: then the others have the connections for a while. */
const PARTS_MAX = 50

/** Runs chores side by side, each at its own pace. One that fails is logged, and comes again at its interval. */
export function createHouseKeeper(chores: readonly Chore[], log: Logger): HouseKeeper {
  const closing = new AbortController()
  let loops: Promise<void>[] = []

  async function runParts(chore: Chore): Promise<void> {
    for (let part = 0; part < PARTS_MAX && !closing.signal.aborted; part++) {
      if (!(await chore.run())) return
    }
  }

  async function loop(chore: Chore): Promise<void> {
    while (!closing.signal.aborted) {
      await runParts(chore).catch((error: unknown) => log.warn({ err: error, chore: chore.name }, 'a chore failed'))
      await delay(chore.intervalMs, undefined, { signal: closing.signal }).catch(() => undefined)
    }
  }

  return {
    start() {
      loops = chores.map(loop)
    },
    async runOnce() {
      for (const chore of chores) await runParts(chore)
    },
    async close() {
      closing.abort()
      await Promise.all(loops)
    },
  }
}
