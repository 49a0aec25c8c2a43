import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import type { Test } from 'tap'
import { onTeardown } from './teardown.ts'

/**
 * Stands before a server as PgBouncer from 1.21 on does, which Debian does not have yet: its clients get numbers of its own
 * to cancel by, and the statements that they prepare get names of its own on the server. Each client has one connection of the
 * server, so there is nothing to pool.
 *
 * @returns its port
 */
export async function startRenamingPooler(t: Test, server: { readonly host: string; readonly port: number }): Promise<number> {
  const sockets = new Set<Socket>()
  const pooler = createServer((client) => {
    const upstream = connect(server)
    for (const [socket, other] of [[client, upstream], [upstream, client]] as const) {
      sockets.add(socket)
      socket.on('error', () => undefined)
      socket.on('close', () => {
        sockets.delete(socket)
        other.destroy()
      })
    }
    const names = new Map<string, string>()
    client.on('data', inMessages({ startsUntyped: true }, (message) => upstream.write(renamed(message, names))))
    upstream.on('data', inMessages({ startsUntyped: false }, (message) => client.write(renumbered(message))))
  })
  pooler.listen(0, '127.0.0.1')
  await once(pooler, 'listening')
  onTeardown(t, async () => {
    for (const socket of sockets) socket.destroy()
    pooler.close()
    await once(pooler, 'close')
  })
  return (pooler.address() as AddressInfo).port
}

/** PostgreSQL's messages: a letter, the length of all but that, and the rest; a client's first one has no letter. */
const LENGTH_BYTES = 4
const KEY_DATA = 'K'
const PARSE = 'P'
const BIND = 'B'
/** Describe and Close say before the name whether it is a statement's. */
const OF_EITHER = new Set(['D', 'C'])

/** @returns what takes chunks of a stream, and calls `take` with each whole message */
function inMessages({ startsUntyped }: { readonly startsUntyped: boolean }, take: (message: Buffer) => void): (chunk: Buffer) => void {
  let rest: Buffer = Buffer.alloc(0)
  let typeBytes = startsUntyped ? 0 : 1
  return (chunk) => {
    rest = Buffer.concat([rest, chunk])
    while (rest.length >= typeBytes + LENGTH_BYTES) {
      const length = typeBytes + rest.readUInt32BE(typeBytes)
      if (rest.length < length) return
      take(rest.subarray(0, length))
      rest = rest.subarray(length)
      typeBytes = 1
    }
  }
}

/** A client's message with the server's name of the statement, if it names one. */
function renamed(message: Buffer, names: Map<string, string>): Buffer {
  const type = String.fromCharCode(message[0] ?? 0)
  const at = nameAt(message, type)
  if (at === undefined) return message
  const end = message.indexOf(0, at)
  const name = message.toString('utf8', at, end)
  if (name === '') return message
  const ours = names.get(name) ?? `PGBOUNCER_${names.size + 1}`
  names.set(name, ours)
  const changed = Buffer.concat([message.subarray(0, at), Buffer.from(ours), message.subarray(end)])
  changed.writeUInt32BE(changed.length - 1, 1)
  return changed
}

/** Where the name of a statement begins; undefined when there is none. */
function nameAt(message: Buffer, type: string): number | undefined {
  const body = 1 + LENGTH_BYTES
  if (type === PARSE) return body
  if (type === BIND) return message.indexOf(0, body) + 1
  return OF_EITHER.has(type) && message[body] === 'S'.charCodeAt(0) ? body + 1 : undefined
}

/** A server's message, with another process id when it is what clients cancel by. */
function renumbered(message: Buffer): Buffer {
  if (message[0] !== KEY_DATA.charCodeAt(0)) return message
  const changed = Buffer.from(message)
  changed.writeUInt32BE(changed.readUInt32BE(1 + LENGTH_BYTES) ^ 0xffff, 1 + LENGTH_BYTES)
  return changed
}
