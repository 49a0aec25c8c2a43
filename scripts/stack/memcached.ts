import { spawn, type ChildProcess } from 'node:child_process'
import { rm } from 'node:fs/promises'
import { serverAccount } from './account.ts'
import { accepts, freePort, LOOPBACK } from './free-port.ts'
import { ensurePackages, findCommand } from './packages.ts'
import type { NeededPackage } from './packages.ts'
import { endServerPids, keepServerPids } from './server-pids.ts'

export interface MemcachedOptions {
  /** The port to take; without one, or when it is taken, any that is free. */
  readonly port?: number
  readonly megabytes?: number
  /** More words of the command line. */
  readonly args?: readonly string[]
  readonly env?: NodeJS.ProcessEnv
  /** Where to keep its process number, for `endLeftoverMemcached`. */
  readonly pidFile?: string
  /** True for a session of its own: a Ctrl-C in the terminal then reaches us and not it. */
  readonly detached?: boolean
}

/** A private memcached of ours, on the loopback address. */
export interface Memcached {
  readonly port: number
  readonly pid: number
  /** `host:port`, an entry of MEMCACHE_SERVERS. */
  readonly address: string
  /** Resolves when the server has ended, by itself or not. */
  readonly ended: Promise<void>
  signal(signal: NodeJS.Signals): void
  /** Ends the server, also one that is stopped. Safe to call twice. */
  stop(): Promise<void>
}

export const MEMCACHED_PACKAGE: NeededPackage = { command: 'memcached', debian: 'memcached', homebrew: 'memcached' }
const MEGABYTES_DEFAULT = 64
const START_ATTEMPTS = 3
const START_DEADLINE_MS = 10_000
/** For a leftover that may be frozen. */
const LEAVE_DEADLINE_MS = 1_000
const POLL_MS = 10

/**
 * Starts a memcached as a child, which ends with this process; installs the package first when the program is missing.
 * Nothing is written to disk. Runs as another user when we are root.
 * @throws Error with what it said when it does not start
 */
export async function startMemcached(options: MemcachedOptions = {}): Promise<Memcached> {
  await ensurePackages([MEMCACHED_PACKAGE])
  const program = await findCommand(MEMCACHED_PACKAGE.command)
  if (program === undefined) throw new Error('memcached is not there.')
  for (let attempt = 1; ; attempt++) {
    const port = await freePort(options.port)
    try {
      return await start(program, port, options)
    } catch (error) {
      // Somebody may have taken the port between our look and the server's.
      if (attempt === START_ATTEMPTS) throw error
    }
  }
}

/** Ends the server whose process number is in `pidFile`, if it still runs because whoever started it was killed. */
export async function endLeftoverMemcached(pidFile: string): Promise<void> {
  await endServerPids(pidFile, LEAVE_DEADLINE_MS)
}

async function start(program: string, port: number, options: MemcachedOptions): Promise<Memcached> {
  const args = ['-l', LOOPBACK, '-p', String(port), '-U', '0', '-m', String(options.megabytes ?? MEGABYTES_DEFAULT), '-t', '2']
  const account = await serverAccount('/nonexistent')
  const child = spawn(program, [...args, ...(options.args ?? [])], {
    cwd: '/',
    env: { PATH: '/usr/bin:/bin', ...options.env },
    stdio: ['ignore', 'ignore', 'pipe'],
    detached: options.detached ?? false,
    ...account,
  })
  const said = collect(child)
  const ended = new Promise<void>((resolve) => {
    child.once('close', () => resolve())
    child.once('error', () => resolve())
  })
  const endWithUs = (): void => void child.kill('SIGKILL')
  process.once('exit', endWithUs)
  void ended.then(() => process.off('exit', endWithUs))

  const { pidFile } = options
  if (pidFile !== undefined) await keepServerPids(pidFile, [{ pid: child.pid ?? 0, mark: `-p ${port} ` }])
  const deadline = performance.now() + START_DEADLINE_MS
  while (!(await accepts(port))) {
    if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined || performance.now() > deadline) {
      child.kill('SIGKILL')
      throw new Error(`memcached does not start.\n${said()}`)
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS))
  }
  return {
    port,
    pid: child.pid ?? 0,
    address: `${LOOPBACK}:${port}`,
    ended,
    signal: (signal) => void child.kill(signal),
    async stop() {
      // It keeps nothing that an orderly end would save, and one that is frozen hears nothing else.
      child.kill('SIGKILL')
      await ended
      if (pidFile !== undefined) await rm(pidFile, { force: true })
    },
  }
}

function collect(child: ChildProcess): () => string {
  let text = ''
  child.stderr?.setEncoding('utf8').on('data', (part: string) => (text = (text + part).slice(-4_000)))
  return () => text.trim()
}
