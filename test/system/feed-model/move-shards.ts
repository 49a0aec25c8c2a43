import { moveShards } from '#domain/shards/move-shards.ts'
import { seededRandom } from '../../../scripts/pictures/random.ts'
import type { World } from './world.ts'

/** The part of the people's shards that goes in one move. */
const SHARE = 0.4

/** Moves people's shards to other nodes and on, without pause, until it is stopped. */
export function moveShardsBeside(world: World, seed: number): { stop(): Promise<number> } {
  const { context } = world
  const random = seededRandom(seed)
  const state = { isStopping: false, moved: 0 }
  const running = (async () => {
    while (!state.isStopping) {
      const to = context.router.nodes[Math.floor(random() * context.router.nodes.length)]?.name ?? ''
      const chosen = world.shards().filter((shard) => random() < SHARE && context.router.nodeOf(shard).name !== to)
      const { moved, unfinished } = await moveShards(context, { shards: chosen, to })
      if (unfinished.length > 0) throw new Error(`shards are stuck: ${JSON.stringify(unfinished)}`)
      state.moved += moved.length
    }
  })()
  // Told when it is stopped; until then a failure must not count as unhandled.
  running.catch(() => undefined)
  return {
    async stop() {
      state.isStopping = true
      await running
      return state.moved
    },
  }
}
