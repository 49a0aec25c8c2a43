import { createServer } from 'node:net'
import type { Socket } from 'node:net'
import { connect } from 'node:net'
import { once } from 'node:events'
import t from 'tap'
import type { Test } from 'tap'
import { openTestCache, serverAt, startTestMemcached } from '../../support/memcached.ts'

/** The binary protocol's SASL commands and what a server answers to them. */
const LIST = 0x20
const AUTH = 0x21
const STATUS_REFUSED = 0x20
const HEADER_BYTES = 24
const LOOPBACK = '127.0.0.1'

function answer(opcode: number, status: number, body: string): Buffer {
  const packet = Buffer.alloc(HEADER_BYTES)
  packet[0] = 0x81
  packet[1] = opcode
  packet.writeUInt16BE(status, 6)
  packet.writeUInt32BE(body.length, 8)
  return Buffer.concat([packet, Buffer.from(body)])
}

/** A memcached that wants a password, as a hosted one does: this asks for it, and a real one is behind. */
async function startGuarded(t: Test, password: string): Promise<number> {
  const { port: target } = await startTestMemcached(t)
  const sockets = new Set<Socket>()
  const server = createServer((client) => {
    sockets.add(client)
    let isSignedIn = false
    const behind = connect(target, LOOPBACK)
    sockets.add(behind)
    for (const socket of [client, behind]) socket.on('error', () => socket.destroy())
    behind.pipe(client)
    client.on('data', (chunk: Buffer) => {
      if (isSignedIn) behind.write(chunk)
      else if (chunk[1] === LIST) client.write(answer(LIST, 0, 'PLAIN'))
      else {
        isSignedIn = chunk[1] === AUTH && chunk.subarray(HEADER_BYTES).toString() === `PLAIN\0me\0${password}`
        client.write(answer(AUTH, isSignedIn ? 0 : STATUS_REFUSED, ''))
      }
    })
  })
  server.listen(0, LOOPBACK)
  await once(server, 'listening')
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  const address = server.address()
  return typeof address === 'object' && address !== null ? address.port : 0
}

const never = (): never => {
  throw new Error('the database is not to be asked')
}

t.test('signs in with its own credentials before the first request', async (t) => {
  const port = await startGuarded(t, 'right')
  const { cache } = openTestCache(t, [serverAt(port, { username: 'me', password: 'right' })])
  t.same(await cache.read('k', async () => Buffer.from('v')), Buffer.from('v'))
  await cache.idle()
  t.same(await cache.read('k', never), Buffer.from('v'))
})

t.test('a wrong password is a server that is down', async (t) => {
  const port = await startGuarded(t, 'right')
  const { cache, counts } = openTestCache(t, [serverAt(port, { username: 'me', password: 'wrong' })])
  t.same(await cache.read('k', async () => Buffer.from('v')), Buffer.from('v'))
  t.same(await cache.delete(['k']), ['k'])
  t.ok(counts.breaker.includes(true))
})

t.test('credentials to a server that wants none do no harm', async (t) => {
  const { port } = await startTestMemcached(t)
  const { cache } = openTestCache(t, [serverAt(port, { username: 'me', password: 'any' })])
  await cache.read('k', async () => Buffer.from('v'))
  await cache.idle()
  t.same(await cache.read('k', never), Buffer.from('v'))
})
