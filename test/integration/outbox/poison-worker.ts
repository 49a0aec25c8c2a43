import { createLogger } from '#platform/logger/logger.ts'
import { postgresTransport } from '#platform/outbox/postgres-transport.ts'
import { openPool } from '#platform/postgres/pool.ts'
import { handling, QUEUE } from './fixture.ts'

/**
 * A worker that one job kills, as a picture that brings the image library down would: for the database at its one
 * argument. It looks for work all the time, so that only the claims decide what it takes together.
 */
export const POISON = 13
export const POISON_ATTEMPTS = 6
export const POISON_CLAIM_MS = 1_000
const WAKE_MS = 10

const [url] = process.argv.slice(2)
if (import.meta.main && url !== undefined) {
  const log = createLogger({ process: 'poison-worker', level: 'silent' })
  const primary = openPool<unknown>({ url, max: 4, applicationName: 'poison-worker' }, log)
  const transport = postgresTransport({ nodes: [{ name: 'main', primary }], log, claimMs: POISON_CLAIM_MS })
  const handler = handling((n) => {
    if (n === POISON) process.kill(process.pid, 'SIGKILL')
  })
  transport.consume({ queue: QUEUE, handlers: [handler], concurrency: 16, deadlineMs: 10_000, maxAttempts: POISON_ATTEMPTS })
  setInterval(() => transport.wake(), WAKE_MS)
}
