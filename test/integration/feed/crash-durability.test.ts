import { chmod } from 'node:fs/promises'
import { resolve } from 'node:path'
import t from 'tap'
import type { Database } from '#domain/database.ts'
import { ensurePartitions } from '#domain/feed/feed.partitions.ts'
import { migrations } from '#migrations/migrations.ts'
import { createLogger } from '#platform/logger/logger.ts'
import { migrateNode } from '#platform/postgres/migrate.ts'
import { openPool } from '#platform/postgres/pool.ts'
import { removeEmbeddedPostgres, startEmbeddedPostgres } from '../../../scripts/stack/embedded-postgres.ts'
import { findPostmaster, isAlive } from '../../../scripts/stack/postmaster.ts'
import { fanOutPhoto } from '../../../services/fanout-worker/fan-out-photo.ts'
import { eventually } from '../../support/eventually.ts'
import { temporaryDirectory } from '../../support/temporary-directory.ts'
import { delivery, NOW_MS, openFeedWorld, photoBody } from './feed-world.ts'

const FOLLOWERS = 50
const PAGE_ROWS = 10

const log = createLogger({ process: 'test', level: 'silent' })

t.test('pages that did not wait for the disk are kept once the photo counts as fanned out', async (t) => {
  const checkout = resolve(import.meta.dirname, '../../..')
  const directory = await temporaryDirectory(t)
  await chmod(directory, 0o711)
  const start = () => startEmbeddedPostgres({ checkout, directory, databases: ['second'], durable: false })
  const server = await start()
  t.teardown(() => removeEmbeddedPostgres(checkout, directory))
  const secondUrl = server.url('second')
  const second = openPool<Database>({ url: secondUrl, max: 2, applicationName: 'test' }, log)
  await migrateNode(second, migrations)
  await ensurePartitions(second, NOW_MS)
  await second.destroy()

  const world = await openFeedWorld(t, { nodes: 2, secondUrl })
  const author = await world.person()
  const followers = []
  for (let index = 0; index < FOLLOWERS; index++) {
    const follower = await world.person({ node: 1 })
    await world.follow(follower, author)
    followers.push(follower)
  }
  const { photoId } = await world.publish(author)
  await fanOutPhoto(world, PAGE_ROWS).handle(photoBody(photoId), delivery())

  // SIGQUIT: an immediate shutdown, which loses whatever log is only in the server's memory.
  const postmaster = await findPostmaster(server.directory)
  if (postmaster === undefined) throw new Error('the second node does not run')
  process.kill(postmaster.pid, 'SIGQUIT')
  await eventually('the end of the postmaster', () => Promise.resolve(isAlive(postmaster.pid) ? undefined : true))
  await start()
  for (const follower of followers) t.same(await world.stored(follower), [photoId])
})
