import t from 'tap'
import { uploadToFeed } from './upload-to-feed.ts'

/** The least that can be deployed, and all that can: so many servers on one machine, with half the people. */
t.test('from upload to feed on the embedded stack, with two of every process type', (t) =>
  uploadToFeed(t, { stack: 'embedded', people: 20, photos: 40 }))

t.test('… and with every lever on: cache, broker, S3, and two nodes with replicas, all behind PgBouncer', (t) =>
  uploadToFeed(t, { stack: 'full', tier: { nodes: 2, replicasOfEach: 1, pgbouncer: true }, people: 10, photos: 20 }))
