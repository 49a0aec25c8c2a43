import { spawn } from 'node:child_process'
import { once } from 'node:events'
import type { Shard } from '#kernel/snowflake.ts'
import type { MoveVia } from '#platform/postgres/shard-moves/move-shard.ts'
import type { MovingWorld } from './moving-world.ts'

/** Has a process move a shard and die by SIGKILL as soon as a step is done. */
export async function killAt(world: MovingWorld, shard: Shard, step: string, via: MoveVia = 'copy'): Promise<void> {
  const [first, second] = world.config.nodes.map(({ url }) => url)
  const args = ['test/integration/shards/mover-victim.ts', first ?? '', second ?? '', String(shard), step, via]
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'ignore', 'inherit'] })
  await once(child, 'close')
  if (child.signalCode !== 'SIGKILL') throw new Error(`the mover ended with ${child.exitCode}`)
}
