import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import { setTimeout as wait } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { manualClock } from '#kernel/clock.ts'
import { noCache } from '#platform/memcached/cache.ts'
import { wireKey } from '#platform/memcached/wire-key.ts'
import { lifesLeft, openTestCache, serverAt, startTestMemcached, talk } from '../../support/memcached.ts'

/** One test for each trap that memjs sets and that needs no broken network; the others are in test/faults. */

const never = (): never => {
  throw new Error('the database is not to be asked')
}

const bytes = (text: string): Buffer => Buffer.from(text)

t.test('a value of every size comes back as it was, many at once', async (t) => {
  const { cache } = openTestCache(t, [(await startTestMemcached(t)).server])
  const sizes = [0, 1, 11, 12, 13, 1_000, 65_536, 300_000, 1_000_000]
  const values = new Map(sizes.map((size) => [`of ${size}`, Buffer.alloc(size, `${size};`)]))
  t.same(await cache.readMany([...values.keys()], async () => values), [...values.values()])
  await cache.idle()
  t.same(await cache.readMany([...values.keys()], never), [...values.values()])
})

t.test('a key that is asked for twice is fetched once, and found in both places', async (t) => {
  const { cache } = openTestCache(t, [(await startTestMemcached(t)).server])
  for (const one of [cache, noCache]) {
    const fetched: string[] = []
    const found = await one.readMany(['a', 'b', 'a'], async (missing) => {
      fetched.push(...missing)
      return new Map([['a', bytes('A')], ['b', null]])
    })
    t.same(found, [bytes('A'), undefined, bytes('A')])
    t.same(fetched, ['a', 'b'])
  }
  await cache.idle()
  t.same(await cache.readMany(['b', 'a', 'a'], never), [undefined, bytes('A'), bytes('A')])
})

t.test('a long key, or one with odd bytes, works, and so does what comes after it', async (t) => {
  const { cache } = openTestCache(t, [(await startTestMemcached(t)).server])
  for (const key of ['k'.repeat(251), 'k'.repeat(70_000), 'two words', 'line\r\nflush_all', '', 'ключ', 'photo:1']) {
    t.same(await cache.read(key, async () => bytes(key)), bytes(key))
    await cache.idle()
    t.same(await cache.read(key, never), bytes(key))
  }
})

for (const [name, firstOpaque] of [['2^31', 2 ** 31 - 10], ['2^32', 2 ** 32 - 10]] as const) {
  t.test(`operations go on after ${name} of them`, async (t) => {
    const { cache } = openTestCache(t, [(await startTestMemcached(t)).server], { firstOpaque })
    const keys = Array.from({ length: 7 }, (_, at) => `key ${at}`)
    const values = new Map(keys.map((key) => [key, bytes(key)]))
    for (let round = 0; round < 5; round++) {
      t.same(await cache.readMany(keys, async () => values), [...values.values()])
      await cache.idle()
      t.same(await cache.readMany(keys, never), [...values.values()])
      t.same(await cache.delete(keys), [])
    }
  })
}

t.test('a value over the limit is not sent, and no placeholder is left', async (t) => {
  // This server would take it; one with the usual limit refuses it, and drops what it had.
  const { cache } = openTestCache(t, [(await startTestMemcached(t, { args: ['-I', '2m'] })).server])
  const large = Buffer.alloc(1_050_000, 1)
  t.ok((await cache.read('k', async () => large))?.equals(large))
  await cache.idle()
  t.same(await cache.read('k', async () => bytes('next')), bytes('next'))
  await cache.idle()
  t.same(await cache.read('k', never), bytes('next'))
})

t.test('no life is longer than 10 minutes', async (t) => {
  const memcached = await startTestMemcached(t)
  const { cache } = openTestCache(t, [memcached.server])
  const asked = [0, 300_000, 700_000, 40 * 24 * 3_600_000, 10 ** 12, Infinity]
  for (const lifeMs of asked) await cache.read(`for-${lifeMs}`, async () => bytes('v'), { lifeMs })
  await cache.read('by-default', async () => bytes('v'))
  await cache.read('absent', async () => null)
  await cache.idle()
  const lifes = await lifesLeft(memcached.port)
  // memcached says -1 for what lives for ever: a moment of 1970.
  for (const [key, seconds] of lifes) t.ok(seconds > -60 && seconds <= 601, `${key}: ${seconds}`)
  t.ok((lifes.get(wireKey('v1:', 'for-300000')) ?? 0) > 200)
  t.ok((lifes.get(wireKey('v1:', 'by-default')) ?? 0) > 500)
  t.ok((lifes.get(wireKey('v1:', 'absent')) ?? 0) <= 6, 'absence is short')
})

t.test('counters count beyond 32 bits, together, and by windows', async (t) => {
  const memcached = await startTestMemcached(t)
  const clock = manualClock(1_000_000)
  const { cache } = openTestCache(t, [memcached.server], { clock })
  const { cache: other } = openTestCache(t, [memcached.server], { clock })

  const counts = await Promise.all(Array.from({ length: 50 }, (_, at) => (at % 2 ? cache : other).increment('logins', 60_000)))
  t.same(counts.toSorted((a, b) => Number(a) - Number(b)), Array.from({ length: 50 }, (_, at) => at + 1))
  const [counter] = await lifesLeft(memcached.port)
  if (counter === undefined) throw new Error('there is no counter')
  const [key, life] = counter
  t.ok(life > 50 && life <= 63, `the counter lives ${life} s`)

  await talk(memcached.port, `set ${key} 0 0 10\r\n4294967295`, /STORED/)
  t.equal(await cache.increment('logins', 60_000), 4_294_967_296)
  clock.step(60_000)
  t.equal(await cache.increment('logins', 60_000), 1, 'the next window begins anew')
})

t.test('gets of one tick are one multi-get, each key once', async (t) => {
  const { cache, counts } = openTestCache(t, [(await startTestMemcached(t)).server])
  const keys = Array.from({ length: 21 }, (_, at) => `photo:${at}`)
  const values = new Map(keys.map((key) => [key, bytes(key)]))
  await cache.readMany(keys, async () => values)
  await cache.idle()
  const before = { ...counts }
  await Promise.all([cache.readMany(keys, never), ...keys.map((key) => cache.read(key, never))])
  t.equal(counts.multiGets - before.multiGets, 1)
  t.equal(counts.commands - before.commands, 22)
})

t.test('more keys than one multi-get takes', async (t) => {
  const { cache } = openTestCache(t, [(await startTestMemcached(t)).server])
  const keys = Array.from({ length: 1_201 }, (_, at) => `photo:${at}`)
  const values = new Map(keys.map((key) => [key, bytes(key)]))
  t.same(await cache.readMany(keys, async () => values), [...values.values()])
  await cache.idle()
  t.same(await cache.readMany(keys, never), [...values.values()])
})

t.test('bytes of somebody else under our key are no value, and are replaced', async (t) => {
  const memcached = await startTestMemcached(t)
  const { cache, counts } = openTestCache(t, [memcached.server])
  await talk(memcached.port, 'set v1:photo:1 0 0 5\r\nhello', /STORED/)
  t.same(await cache.read('photo:1', async () => bytes('ours')), bytes('ours'))
  await cache.idle()
  t.same(await cache.read('photo:1', never), bytes('ours'))
  t.same(counts.failures, ['corrupt'])
})

t.test('an idle connection that the server drops is no failure', async (t) => {
  const memcached = await startTestMemcached(t)
  const { cache, counts } = openTestCache(t, [memcached.server])
  await cache.read('k', async () => bytes('v'))
  await cache.idle()
  await memcached.restart()
  await wait(0)
  t.same(await cache.read('k', async () => bytes('w')), bytes('w'))
  await cache.idle()
  t.same(await cache.read('k', never), bytes('w'))
  t.same(counts.breaker, [])
})

t.test('an answer to no request ends its connection, and nothing else', async (t) => {
  const chatterbox = await startChatterbox(t, (await startTestMemcached(t)).port, 'after')
  const { cache, counts } = openTestCache(t, [serverAt(chatterbox.port)])
  for (let round = 1; round <= 3; round++) {
    t.same(await cache.read('k', async () => bytes('v')), bytes('v'))
    await cache.idle()
    t.same(await cache.delete(['k']), [])
    t.ok(chatterbox.connections() > round, 'it is not asked on that connection again')
  }
  t.same(counts.breaker, [])
})

t.test('an answer to no request in place of one is none: not of a read, nor of a delete', async (t) => {
  const chatterbox = await startChatterbox(t, (await startTestMemcached(t)).port, 'before')
  const { cache, counts } = openTestCache(t, [serverAt(chatterbox.port)])
  t.same(await cache.read('k', async () => bytes('v')), bytes('v'))
  t.same({ ...counts.reads }, { hit: 0, absent: 0, filled: 0, waited: 0, down: 1 })
  t.same(await cache.delete(['k']), ['k'])
  t.same(counts.breaker, [true])
})

/** A way to a memcached on which something that nobody asked for comes with each chunk of answers. */
async function startChatterbox(t: Test, memcachedPort: number, place: 'before' | 'after'): Promise<{ port: number; connections: () => number }> {
  const stray = Buffer.alloc(24)
  stray.writeUInt8(0x81)
  stray.writeUInt32BE(0x7fff_ffff, 12)
  let connections = 0
  const server = createServer((client) => {
    connections++
    const target = connect(memcachedPort, '127.0.0.1')
    client.on('data', (chunk) => target.write(chunk)).on('error', () => undefined).on('close', () => target.destroy())
    target.on('data', (chunk) => client.write(Buffer.concat(place === 'before' ? [stray, chunk] : [chunk, stray])))
    target.on('error', () => undefined).on('close', () => client.destroy())
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const address = server.address()
  return { port: typeof address === 'object' && address !== null ? address.port : 0, connections: () => connections }
}
