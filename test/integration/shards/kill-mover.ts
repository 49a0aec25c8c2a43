import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { sql } from 'kysely'
import type { Shard } from '#kernel/snowflake.ts'
import { ADVISORY_LOCKS } from '#platform/postgres/advisory-locks.ts'
import type { MoveVia } from '#platform/postgres/shard-moves/move-shard.ts'
import type { MovingWorld } from './moving-world.ts'

/** Has a process move a shard and die by SIGKILL as soon as a step is done. */
export async function killAt(world: MovingWorld, shard: Shard, step: string, via: MoveVia = 'copy'): Promise<void> {
  const [first, second] = world.config.nodes.map(({ url }) => url)
  const args = ['test/integration/shards/mover-victim.ts', first ?? '', second ?? '', String(shard), step, via]
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'ignore', 'inherit'] })
  await once(child, 'close')
  if (child.signalCode !== 'SIGKILL') throw new Error(`the mover ended with ${child.exitCode}`)
  // Its server notices a moment later, and only then may somebody else move shards.
  await sql`select pg_advisory_xact_lock(${ADVISORY_LOCKS.moveShards})`.execute(world.source)
}
