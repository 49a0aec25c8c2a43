import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { parseEnv } from 'node:util'
import t, { type Test } from 'tap'
import { makePicture } from '../../scripts/pictures/make-picture.ts'
import { apiClient, PASSWORD, type ApiClient, type Person, type Photo } from '../support/api-client.ts'
import { allGone, isRunning } from '../support/command.ts'
import { makeCheckout, startDev, stopAtTeardown } from '../support/dev.ts'
import { eventually } from '../support/eventually.ts'
import { runSql } from '../support/tier-server.ts'
import { openRaw, publishRaw, takeRaw } from '../integration/rabbitmq/raw.ts'

/** `./scripts/dev --full` as a developer uses it: every lever is on, and what holds without them holds with them. */

/** Three memcached, RabbitMQ with its port mapper, PgBouncer, two nodes, two replicas; S3 is in the script itself. */
const SERVERS = 10
const PROCESSES = 5
const QUEUE = 'test'

t.test('--full carries a photograph into a feed, stops in an orderly way, and keeps the data', async (t) => {
  const checkout = await makeCheckout(t)

  await t.test('Ctrl-C drains the processes before their servers, and stops everything', async (t) => {
    const dev = await startDev(t, checkout, ['--full'])
    stopAtTeardown(t, dev)
    t.equal(dev.pids.length, PROCESSES + SERVERS)
    for (const server of ['PgBouncer', 'PostgreSQL', 'replicas', 'memcached', 'RabbitMQ', 'S3']) {
      t.match(dev.output(), new RegExp(`^ +${server} .*127\\.0\\.0\\.1:\\d+`, 'm'), `the address of ${server} is told`)
    }
    const env = await environmentOf(checkout)
    t.match(env, { MEMCACHE_SERVERS: /^([\d.:]+,){2}[\d.:]+$/, AMQP_URL: /^amqp:/, STORAGE_URL: /^s3:/, AWS_ACCESS_KEY_ID: /./ })

    t.match(env, { DATABASE_NODES: 'DATABASE_URL,SECOND_URL', DATABASE_URL_REPLICAS: 'FOLLOWER_URL', SECOND_URL_REPLICAS: 'SECOND_FOLLOWER_URL' })
    const pooler = /PgBouncer +(\S+),/.exec(dev.output())?.[1]
    for (const name of ['DATABASE_URL', 'SECOND_URL', 'FOLLOWER_URL', 'SECOND_FOLLOWER_URL']) t.equal(new URL(env[name] ?? '').host, pooler)
    await t.rejects(runSql(env.SECOND_FOLLOWER_URL ?? '', 'delete from accounts'), { code: '25006' }, 'a replica')

    const api = apiClient([dev.url])
    const author = await api.signUp('ada')
    const reader = await api.signUp('bela')
    await api.ok('PUT', `/v1/accounts/${author.account.id}/follow`, { token: reader.token })
    await api.upload(author, await makePicture({ seed: 1, width: 640, height: 480, format: 'jpeg' }))
    await showsPhoto(t, api, reader)
    await eventually('the replica has the photograph’s author', async () => {
      const urls = [env.FOLLOWER_URL ?? '', env.SECOND_FOLLOWER_URL ?? '']
      const found = await Promise.all(urls.map((url) => runSql(url, 'select 1 from accounts where id = $1', [author.account.id])))
      return found.flat().length === 1 ? true : undefined
    })
    await leaveMessage(t, env.AMQP_URL ?? '')

    dev.interrupt()
    dev.interrupt()
    t.same(await dev.ended, { code: 0, signal: null })
    await allGone(dev.pids)
    t.notMatch(dev.output(), /Killed|no connection to the broker/, 'every process left by itself, its servers still there')
    t.match(dev.output(), /RabbitMQ stopped\.\nPostgreSQL stopped\./, 'PostgreSQL last')
  })

  await t.test('a second start has the photograph and the broker’s messages; SIGTERM stops everything', async (t) => {
    const dev = await startDev(t, checkout, ['--full'])
    stopAtTeardown(t, dev)
    const api = apiClient([dev.url])
    const { token } = await api.ok<{ token: string }>('POST', '/v1/sessions', { json: { username: 'bela', password: PASSWORD } })
    await showsPhoto(t, api, { token })
    const { AMQP_URL = '' } = await environmentOf(checkout)
    t.match(await takeRaw(openRaw(t, AMQP_URL), QUEUE), { body: 'kept' })
    process.kill(dev.pid, 'SIGTERM')
    t.same(await dev.ended, { code: 0, signal: null })
    await allGone(dev.pids)
  })

  await t.test('what a kill -9 leaves is ended by the next start, also of the other stack', async (t) => {
    const killed = await startDev(t, checkout, ['--full'])
    process.kill(killed.pid, 'SIGKILL')
    const dev = await startDev(t, checkout)
    stopAtTeardown(t, dev)
    await allGone(killed.pids)
    t.equal((await apiClient([dev.url]).call('GET', '/v1/accounts/ada')).status, 404, 'the stacks have data of their own')
    process.kill(dev.pid, 'SIGKILL')

    const again = await startDev(t, checkout, ['--full'])
    stopAtTeardown(t, again)
    await allGone(dev.pids)
    t.equal((await apiClient([again.url]).call('GET', '/v1/accounts/ada')).status, 200)
    t.same(await Promise.all(again.pids.map(isRunning)), again.pids.map(() => true))
    again.interrupt()
    await again.ended
    await allGone(again.pids)
  })
})

async function environmentOf(checkout: string): Promise<NodeJS.Dict<string>> {
  return parseEnv(await readFile(join(checkout, '.monogram/full/env'), 'utf8'))
}

/** A message that nobody of ours takes, on a queue as durable as ours. */
async function leaveMessage(t: Test, url: string): Promise<void> {
  const connection = openRaw(t, url)
  await connection.queueDeclare({ queue: QUEUE, durable: true, arguments: { 'x-queue-type': 'quorum' } })
  await publishRaw(connection, [{ envelope: { routingKey: QUEUE }, body: 'kept' }])
}

/** The newest photograph of the reader's feed is there, and so are its pictures. */
async function showsPhoto(t: Test, api: ApiClient, { token }: Pick<Person, 'token'>): Promise<void> {
  const photo = await eventually('the photograph is in the feed', async () => {
    const [newest] = await api.all<Photo>('/v1/feed', { token })
    return newest
  })
  for (const { url } of photo.renditions) t.equal((await api.bytes(url)).status, 200)
}
