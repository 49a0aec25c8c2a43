import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { accepts, freePort, LOOPBACK } from './free-port.ts'
import { ensurePackages, findProgram } from './packages.ts'
import type { NeededPackage } from './packages.ts'
import { keepMemory, recallMemory, serverHome, writeOwned } from './server-home.ts'
import type { ServerHome, ServerMemory } from './server-home.ts'
import { endServerPids, keepServerPids } from './server-pids.ts'

/** The name of a database as clients say it, and the URL of the database that stands behind it. */
export type PooledDatabases = ReadonlyMap<string, string>

export interface PgbouncerOptions {
  /** The root of the checkout: only used to name a place outside it. */
  checkout: string
  /** Where it may keep its directory `pgbouncer`. */
  directory: string
  databases: PooledDatabases
  /** Where to keep its process number, for `endLeftoverPgbouncer`. */
  pidFile?: string
  /** True for a session of its own: a Ctrl-C in the terminal then reaches us and not it. */
  detached?: boolean
}

/** A private PgBouncer of ours in transaction mode, on the loopback address. */
export interface Pgbouncer {
  port: number
  pid: number
  /** The URL of one of its databases. Carries a password. */
  url: (database: string) => string
  /** The URL of its console, which knows only `show …` and the like. */
  consoleUrl: string
  /** Puts other databases in place of those it has, or other servers behind them; transactions under way end first. */
  setDatabases: (databases: PooledDatabases) => Promise<void>
  /** Ends it at once. Safe to call twice. */
  stop: () => Promise<void>
}

export const PGBOUNCER_PACKAGE: NeededPackage = { command: 'pgbouncer', debian: 'pgbouncer', homebrew: 'pgbouncer' }
const USER = 'monogram'
const CONSOLE = 'pgbouncer'
const CONFIG_FILE = 'pgbouncer.ini'
const USERS_FILE = 'users.txt'
const CLIENTS_MAX = 1_000
/** Connections to a server for each database of it. */
const POOL_SIZE = 20
const START_DEADLINE_MS = 10_000
const STOP_DEADLINE_MS = 5_000
const POLL_MS = 10

/**
 * Starts a PgBouncer as a child, on a port that it remembers; installs the package first when the program is missing.
 * Runs as another user when we are root, which it refuses.
 * @throws Error with what it said when it does not start
 */
export async function startPgbouncer(options: PgbouncerOptions): Promise<Pgbouncer> {
  await ensurePackages([PGBOUNCER_PACKAGE])
  const program = await findProgram(PGBOUNCER_PACKAGE)
  if (program === undefined) throw new Error('pgbouncer is not there.')
  const { pidFile } = options
  if (pidFile !== undefined) await endLeftoverPgbouncer(pidFile)
  const home = await serverHome(options.checkout, options.directory, 'pgbouncer')
  const known = await recallMemory(home)
  const memory = { ...known, port: await freePort(known.port) }
  await keepMemory(home, memory)
  await writeOwned(home, USERS_FILE, `"${USER}" "${memory.password}"\n`)
  const config = await writeOwned(home, CONFIG_FILE, settings(home, memory, options.databases))

  const child = spawn(program, ['--quiet', config], {
    cwd: '/',
    env: { PATH: '/usr/bin:/bin', LC_ALL: 'C', TZ: 'UTC' },
    stdio: ['ignore', 'ignore', 'pipe'],
    detached: options.detached ?? false,
    ...home.account,
  })
  const ended = new Promise<void>((resolve) => {
    child.once('close', () => resolve())
    child.once('error', () => resolve())
  })
  if (pidFile !== undefined) await keepServerPids(pidFile, [{ pid: child.pid ?? 0, mark: config }])
  await untilListening(child, memory.port)
  const urlOf = (database: string): string => `postgres://${USER}:${memory.password}@${LOOPBACK}:${memory.port}/${database}`
  return {
    port: memory.port,
    pid: child.pid ?? 0,
    url: urlOf,
    consoleUrl: urlOf(CONSOLE),
    async setDatabases(databases) {
      await writeOwned(home, CONFIG_FILE, settings(home, memory, databases))
      child.kill('SIGHUP')
    },
    async stop() {
      // It keeps nothing that an orderly end would save, and since 1.23 one waits for its clients.
      child.kill('SIGKILL')
      await ended
      if (pidFile !== undefined) await rm(pidFile, { force: true })
    },
  }
}

/** Kills the PgBouncer whose process number is in `pidFile`, if it still runs because whoever started it was killed. */
export async function endLeftoverPgbouncer(pidFile: string): Promise<void> {
  await endServerPids(pidFile, STOP_DEADLINE_MS)
}

function settings(home: ServerHome, { port }: ServerMemory, databases: PooledDatabases): string {
  return [
    '[databases]',
    ...[...databases].map(([name, url]) => `${name} = ${behind(new URL(url))}`),
    '[pgbouncer]',
    `listen_addr = ${LOOPBACK}`,
    `listen_port = ${port}`,
    'unix_socket_dir =',
    'auth_type = scram-sha-256',
    `auth_file = ${join(home.directory, USERS_FILE)}`,
    `admin_users = ${USER}`,
    'pool_mode = transaction',
    `max_client_conn = ${CLIENTS_MAX}`,
    `default_pool_size = ${POOL_SIZE}`,
    // After a server refused a login (it starts, say), others may try again so soon.
    'server_login_retry = 1',
    'log_connections = 0',
    'log_disconnections = 0',
    '',
  ].join('\n')
}

function behind({ hostname, port, pathname, username, password }: URL): string {
  return `host=${hostname} port=${port} dbname=${pathname.slice(1)} user=${username} password=${password}`
}

async function untilListening(child: ChildProcess, port: number): Promise<void> {
  let said = ''
  child.stderr?.setEncoding('utf8').on('data', (text: string) => (said = (said + text).slice(-4_000)))
  const deadline = performance.now() + START_DEADLINE_MS
  while (!(await accepts(port))) {
    if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined || performance.now() > deadline) {
      child.kill('SIGKILL')
      throw new Error(`PgBouncer does not start.\n${said.trim()}`)
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS))
  }
}
