import { systemClock } from '#kernel/clock.ts'
import type { Database } from '#domain/database.ts'
import { moveShards } from '#domain/shards/move-shards.ts'
import { createLogger } from '#platform/logger/logger.ts'
import { openRouter } from '#platform/postgres/router.ts'
import { SECOND } from './moving-world.ts'

/** A mover that is killed -9 as soon as it has done a step: for two URLs, a shard, the step and the way. */
const [first = '', second = '', shard = '', fatal, via] = process.argv.slice(2)
if (import.meta.main) {
  const nodes = [{ name: 'DATABASE_URL', url: first }, { name: SECOND, url: second }]
  const log = createLogger({ process: 'mover', level: 'silent' })
  const router = await openRouter<Database>({ nodes, poolMax: 3, applicationName: 'mover' }, log)
  const dieAt = (step: string): void => {
    if (step === fatal) process.kill(process.pid, 'SIGKILL')
  }
  const context = { router, config: { nodes }, clock: systemClock, log, sleep: () => Promise.resolve() }
  await moveShards(context, { shards: [Number(shard)], to: SECOND, via: via === 'replication' ? via : 'copy' }, {
    begin: () => dieAt('announced'),
    step: async (step) => dieAt(step),
  })
}
