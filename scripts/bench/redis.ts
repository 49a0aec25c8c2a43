import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { freePort, LOOPBACK } from '../stack/free-port.ts'

/** A Redis of our own from Debian's package, as a child that ends with us: append-only file, forced every second. */
export async function startRedis(directory: string): Promise<{ port: number; stop: () => Promise<void> }> {
  const port = await freePort()
  const args = ['--port', String(port), '--bind', LOOPBACK, '--dir', directory, '--appendonly', 'yes', '--appendfsync', 'everysec', '--save', '']
  const server = spawn('redis-server', args, { stdio: ['ignore', 'pipe', 'inherit'] })
  const ended = once(server, 'close')
  for await (const text of server.stdout) if (String(text).includes('Ready to accept connections')) break
  return {
    port,
    async stop() {
      server.kill()
      await ended
    },
  }
}
