import { randomInt } from 'node:crypto'
import { connect, createServer } from 'node:net'

export const LOOPBACK = '127.0.0.1'

/** True if nothing listens on `port` of the loopback address and we may. */
export async function isPortFree(port: number): Promise<boolean> {
  return listenOnce(port).then(() => true, () => false)
}

/** Below those that systems take for outgoing connections: one of these would be gone between our look and a server's start. */
const PORT_MIN = 20_000
const PORT_MAX = 32_000
const TRIES = 100

/** A port of the loopback address that nobody listens on now: the preferred one if it is free, else any. */
export async function freePort(preferred = 0): Promise<number> {
  if (preferred !== 0 && (await isPortFree(preferred))) return preferred
  for (let tried = 0; tried < TRIES; tried++) {
    const port = randomInt(PORT_MIN, PORT_MAX)
    if (await isPortFree(port)) return port
  }
  return listenOnce(0)
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

async function listenOnce(port: number): Promise<number> {
  const server = createServer()
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen({ port, host: LOOPBACK, exclusive: true }, () => {
      const address = server.address()
      server.close(() => (address !== null && typeof address === 'object' ? resolve(address.port) : reject(new Error('no address'))))
    })
  })
}
