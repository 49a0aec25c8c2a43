import t from 'tap'
import { startTestMemcached } from '../support/memcached.ts'
import { uploadToFeed } from './upload-to-feed.ts'

/** The same on more database servers, with less of everything else: what differs is where the rows are. */
const SIZE = { people: 8, photos: 16 }
const COUNTS = { 'web': 2, 'fanout-worker': 2, 'thumbnail-worker': 1, 'safety-worker': 1, 'id-allocator': 1 }

t.test('from upload to feed on four nodes, behind PgBouncer', (t) =>
  uploadToFeed(t, { stack: 'embedded', tier: { nodes: 4, ownServers: true, pgbouncer: true }, counts: COUNTS, ...SIZE }))

t.test('from upload to feed on two nodes with two replicas each, behind PgBouncer', async (t) => {
  // Replicas are for those of whom a cache says what they wrote.
  const { server } = await startTestMemcached(t)
  const tier = { nodes: 2, replicasOfEach: 2, pgbouncer: true } as const
  await uploadToFeed(t, { stack: 'embedded', tier, counts: COUNTS, env: { MEMCACHE_SERVERS: server.name }, ...SIZE })
})
