import type { AppRouter } from '#domain/database.ts'
import type { FeedWorld } from './feed-world.ts'

/** A job cut into pieces: each runs from one transaction's door to the next. */
export interface SteppedJob {
  /** Starts the job and lets it come to its first door. */
  begin(): Promise<void>
  /** Lets it through the door and come to the next one, or to its end. */
  step(): Promise<void>
  /** Lets it through every door. */
  finish(): Promise<void>
}

/** A job whose every write waits at the door until it is told to go on. */
export function steppedJob(world: FeedWorld, run: (world: FeedWorld) => Promise<void>): SteppedJob {
  let arrived = Promise.withResolvers<undefined>()
  let go = Promise.withResolvers<undefined>()
  let ended: Promise<void> = Promise.resolve()
  let isOver = false
  const router: AppRouter = Object.create(world.router, {
    write: {
      value: async (...args: Parameters<AppRouter['write']>) => {
        arrived.resolve(undefined)
        await go.promise
        return world.router.write(...args)
      },
    },
  }) as AppRouter
  const job: SteppedJob = {
    async begin() {
      ended = run({ ...world, router }).finally(() => {
        isOver = true
      })
      await Promise.race([ended, arrived.promise])
    },
    async step() {
      const gate = go
      arrived = Promise.withResolvers()
      go = Promise.withResolvers()
      gate.resolve(undefined)
      await Promise.race([ended, arrived.promise])
    },
    async finish() {
      while (!isOver) await job.step()
      await ended
    },
  }
  return job
}

/** All orders of two sequences that keep the order within each. */
export function interleavings<T>(left: readonly T[], right: readonly T[]): T[][] {
  const [l, ...ls] = left
  const [r, ...rs] = right
  if (l === undefined) return [[...right]]
  if (r === undefined) return [[...left]]
  return [...interleavings(ls, right).map((rest) => [l, ...rest]), ...interleavings(left, rs).map((rest) => [r, ...rest])]
}
