import { existsSync } from 'node:fs'
import { readFile, rm, truncate } from 'node:fs/promises'
import { setTimeout as wait } from 'node:timers/promises'
import type { Binaries } from './binaries.ts'
import { accepts, freePort, isPortFree, LOOPBACK } from './free-port.ts'
import { initialise } from './initialise.ts'
import { findPostmaster } from './postmaster.ts'
import { majorOf, versionOf } from './postgres-version.ts'
import { runCommand } from './run-command.ts'
import { keepMemory, recallMemory, serverHome } from './server-home.ts'
import type { ServerHome, ServerMemory } from './server-home.ts'

/** The role that owns the databases: it may make databases, and is not a superuser. */
export const ROLE = 'monogram'
export const SUPERUSER = 'postgres'

/** What differs from PostgreSQL's defaults, as words of a command line: no value may need quoting. */
export type Settings = Readonly<Record<string, string | number>>

export interface PostgresOptions {
  /** The root of the checkout: only used to name a place outside it. */
  checkout: string
  /** Where the server may keep its directory `postgres`. Its last name is unique among the servers of the checkout. */
  directory: string
  /** Databases to make, owned by ROLE, when the server is made. */
  databases: readonly string[]
  /** False for tests: nothing is forced to disk, so a crash of the machine may lose everything. */
  durable: boolean
  settings?: Settings
}

/** A PostgreSQL of ours, on the loopback address. */
export interface PostgresServer {
  /** The data directory, for people to know. */
  directory: string
  port: number
  /** The URL of one of its databases for ROLE, which is not a superuser, as on a host. Carries a password. */
  url: (database: string) => string
  superuserUrl: (database: string) => string
  /** The process number of the server; undefined when it does not run. */
  pid: () => Promise<number | undefined>
  /** Starts it again on its port, after `stop` or `kill`. */
  start: () => Promise<void>
  /** Stops the server in an orderly way; nothing committed is lost. Safe to call twice. */
  stop: () => Promise<void>
  /** Ends it by SIGKILL, as a machine that loses power. */
  kill: () => Promise<void>
}

/** One server at its home, with the programs that run it. */
export interface Place {
  home: ServerHome
  binaries: Binaries
  settings: Settings
  durable: boolean
}

const START_SECONDS = 60
const STOP_SECONDS = 20
const START_ATTEMPTS = 3
/** After a kill the backends hold the shared memory for a moment, in which no new server starts. */
const RESTART_ATTEMPTS = 50
const POLL_MS = 50
const CONNECTIONS = 300
const LOG_BYTES_MAX = 10_000_000

/**
 * Starts a real PostgreSQL, in a session of its own (so Ctrl-C in the terminal reaches us but not it), on a free port
 * of the loopback address that it remembers; makes it first when there is none. A server that still runs there, because
 * whoever started it was killed, is used as it is. Works as root and as an ordinary user. Throws with the end of the
 * server's log when it does not start.
 */
export async function startPostgres(options: PostgresOptions, programs: ProgramsFor): Promise<PostgresServer> {
  const place = await placeFor(options, programs)
  const { home, binaries } = place
  const memory = await recallMemory(home)
  await keepMemory(home, memory)
  if (existsSync(home.data)) await refuseOtherMajor(place)
  else await initialise(home, binaries, { ...options, password: memory.password, role: ROLE })
  return run(place, memory)
}

/** The programs to run a server with, as that user. */
export type ProgramsFor = (account: ServerHome['account']) => Promise<Binaries>

export async function placeFor(options: Omit<PostgresOptions, 'databases'>, programs: ProgramsFor): Promise<Place> {
  const home = await serverHome(options.checkout, options.directory)
  return { home, binaries: await programs(home.account), settings: options.settings ?? {}, durable: options.durable }
}

/** Starts the server whose data is there, or finds that it runs; keeps the port for the next start. */
export async function run(place: Place, memory: ServerMemory): Promise<PostgresServer> {
  const { home } = place
  const running = await findPostmaster(home.data)
  const port = running?.port ?? (await startOnSomePort(place, memory.port))
  await keepMemory(home, { ...memory, port })
  const urlFor = (user: string, database: string): string => `postgres://${user}:${memory.password}@${LOOPBACK}:${port}/${database}`
  const pid = async (): Promise<number | undefined> => (await findPostmaster(home.data))?.pid
  return {
    directory: home.data,
    port,
    url: (database) => urlFor(ROLE, database),
    superuserUrl: (database) => urlFor(SUPERUSER, database),
    pid,
    start: () => startAgain(place, port),
    stop: () => stop(place),
    async kill() {
      const running = await pid()
      if (running === undefined) return
      process.kill(running, 'SIGKILL')
      while ((await pid()) !== undefined || (await accepts(port))) await wait(POLL_MS)
    },
  }
}

/** Stops the server of a place, if it runs. */
export async function stop(place: Place): Promise<void> {
  const { data } = place.home
  if ((await findPostmaster(data)) === undefined) return
  const failure = await pgCtl(place, ['stop', '-m', 'fast', '-t', String(STOP_SECONDS)]).catch(asError)
  if (failure === undefined || (await findPostmaster(data)) === undefined) return
  // Recovery at the next start replays what an immediate stop leaves: nothing committed is lost.
  await pgCtl(place, ['stop', '-m', 'immediate', '-t', String(STOP_SECONDS)])
}

/** Stops the server of a place, if it runs, and removes everything it kept. */
export async function remove(place: Place): Promise<void> {
  await stop(place)
  await rm(place.home.directory, { recursive: true, force: true })
}

/** Runs pg_ctl on the server of a place and waits for what it was told to do. */
export async function pgCtl({ home, binaries }: Place, args: readonly string[]): Promise<undefined> {
  await runCommand(binaries.pg_ctl, ['-D', home.data, '-w', '-s', ...args], { account: home.account })
  return undefined
}

async function startOnSomePort(place: Place, preferredPort: number): Promise<number> {
  await truncateLog(place.home)
  for (let attempt = 1; ; attempt++) {
    const port = await freePort(preferredPort)
    const failure = await start(place, port)
    if (failure === undefined) return port
    // Somebody may have taken the port between our look and the server's: try another, but not for ever.
    if (attempt === START_ATTEMPTS) throw await notStarted(place, failure)
  }
}

async function startAgain(place: Place, port: number): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    const failure = await start(place, port)
    if (failure === undefined) return
    if (attempt === RESTART_ATTEMPTS || !(await isPortFree(port))) throw await notStarted(place, failure)
    await wait(POLL_MS)
  }
}

async function start(place: Place, port: number): Promise<Error | undefined> {
  const args = ['start', '-t', String(START_SECONDS), '-l', place.home.log, '-o', words(place, port)]
  return pgCtl(place, args).catch(asError)
}

async function notStarted({ home }: Place, cause: Error): Promise<Error> {
  const log = await readFile(home.log, 'utf8').catch(() => '')
  return new Error(`PostgreSQL does not start.\n${log.split('\n').slice(-15).join('\n')}`, { cause })
}

function words({ settings, durable }: Place, port: number): string {
  const all: Settings = {
    listen_addresses: LOOPBACK,
    port,
    unix_socket_directories: '',
    max_connections: CONNECTIONS,
    ...(!durable && { fsync: 'off', full_page_writes: 'off' }),
    ...settings,
  }
  return Object.entries(all).map(([name, value]) => `-c ${name}=${value}`).join(' ')
}

async function refuseOtherMajor({ home, binaries }: Place): Promise<void> {
  const made = (await readFile(`${home.data}/PG_VERSION`, 'utf8')).trim()
  if (made === String(await majorOf(binaries.postgres, home.account))) return
  const version = await versionOf(binaries.postgres, home.account)
  throw new Error(`${home.data} was made by PostgreSQL ${made}; this is ${version}. Start with --fresh to make it anew.`)
}

async function truncateLog(home: ServerHome): Promise<void> {
  const text = await readFile(home.log).catch(() => undefined)
  if (text !== undefined && text.length > LOG_BYTES_MAX) await truncate(home.log)
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error))
}
