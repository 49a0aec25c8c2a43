import { setTimeout as wait } from 'node:timers/promises'

/** Several at once, each going through one round after the other. */
export interface Rounds {
  /** Rejects when a round does. */
  readonly failed: Promise<never>
  /** Resolves when everybody has gone through as many more. */
  more: (count: number) => Promise<void>
  /** Resolves when the rounds under way are over. */
  stop: () => Promise<void>
}

/** @param pauseMs between two rounds of one of them */
export function startRounds<Who>(all: readonly Who[], round: (who: Who, number: number) => Promise<void>, pauseMs: number): Rounds {
  const done: number[] = []
  let isStopping = false
  const running = Promise.all(
    all.map(async (who, index) => {
      for (done[index] = 0; !isStopping; done[index]++) {
        await round(who, done[index] ?? 0)
        await wait(pauseMs)
      }
    }),
  )
  const failed = running.then(() => new Promise<never>(() => undefined))
  failed.catch(() => undefined)
  return {
    failed,
    async more(count) {
      const goals = done.map((number) => number + count)
      while (goals.some((goal, index) => (done[index] ?? 0) < goal)) await Promise.race([wait(pauseMs), failed])
    },
    async stop() {
      isStopping = true
      await running
    },
  }
}
