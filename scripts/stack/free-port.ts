import { randomInt } from 'node:crypto'
import { connect, createServer, type Server } from 'node:net'

export const LOOPBACK = '127.0.0.1'

/** True if nothing listens on `port` of the loopback address and we may. */
export async function isPortFree(port: number): Promise<boolean> {
  return listen(port).then(closed).then(() => true, () => false)
}

/** Below those that systems take for outgoing connections: one of these would be gone between our look and a server's start. */
const PORT_MIN = 20_000
const PORTS = 6_000
const TRIES = 100

/** What this process holds on to, by port. */
const claims = new Map<number, Server>()

/**
 * A port of the loopback address that nobody listens on now: the preferred one if it is free, else any. It stays this
 * process's until its end: nobody else who asks this function gets it, however late a server takes it.
 */
export async function freePort(preferred = 0): Promise<number> {
  if (preferred !== 0 && (await isPortFree(preferred)) && (await claimPort(preferred))) return preferred
  for (let tried = 0; tried < TRIES; tried++) {
    const port = PORT_MIN + randomInt(PORTS)
    if (!claims.has(port) && (await isPortFree(port)) && (await claimPort(port))) return port
  }
  return listen(0).then(closed)
}

/**
 * True if no other process has claimed `port`, which then is ours. A claim is a listener on the port that lies PORTS
 * further, so those are nobody's: the system gives it up when we end, however we do. Ports beyond both need none.
 */
export async function claimPort(port: number): Promise<boolean> {
  if (port < PORT_MIN || port >= PORT_MIN + 2 * PORTS || claims.has(port)) return true
  if (port >= PORT_MIN + PORTS) return false
  const claim = await listen(port + PORTS).catch(() => undefined)
  if (claim === undefined) return false
  claims.set(port, claim.unref())
  return true
}

/** True if somebody accepts connections on `port` of the loopback address. */
export function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, LOOPBACK)
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', () => resolve(false))
  })
}

function listen(port: number): Promise<Server> {
  const server = createServer((socket) => socket.destroy())
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen({ port, host: LOOPBACK, exclusive: true }, () => resolve(server))
  })
}

async function closed(server: Server): Promise<number> {
  const address = server.address()
  await new Promise((resolve) => server.close(resolve))
  if (address === null || typeof address !== 'object') throw new Error('no address')
  return address.port
}
