import { connect, createServer } from 'node:net'

export const LOOPBACK = '127.0.0.1'

/** True if nothing listens on `port` of the loopback address and we may. */
export async function isPortFree(port: number): Promise<boolean> {
  return listenOnce(port).then(() => true, () => false)
}

/** A port of the loopback address that nobody listens on now: the preferred one if it is free, else any. */
export async function freePort(preferred = 0): Promise<number> {
  return preferred !== 0 && (await isPortFree(preferred)) ? preferred : listenOnce(0)
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
