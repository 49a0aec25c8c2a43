import type { Test } from 'tap'
import { startTestMemcacheds } from './memcached.ts'
import { startTestBroker } from './rabbitmq.ts'
import { startTestS3 } from './s3.ts'

const CACHE_SERVERS = 3

/** Starts the servers of the full stack for one test and gives the variables that turn their levers on. */
export async function startFullStack(t: Test): Promise<Record<string, string>> {
  const [caches, broker, s3] = await Promise.all([startTestMemcacheds(t, CACHE_SERVERS), startTestBroker(t), startTestS3(t)])
  const { url } = await broker.vhost()
  return { MEMCACHE_SERVERS: caches.map(({ server }) => server.name).join(','), AMQP_URL: url, ...s3.environment }
}
