import { existsSync } from 'node:fs'
import { readFile, rm, truncate } from 'node:fs/promises'
import { join } from 'node:path'
import { binariesFor } from './binaries.ts'
import type { Binaries } from './binaries.ts'
import { freePort, LOOPBACK } from './free-port.ts'
import { initialise } from './initialise.ts'
import { findPostmaster } from './postmaster.ts'
import { runCommand } from './run-command.ts'
import { keepMemory, recallMemory, serverHome } from './server-home.ts'
import type { ServerHome } from './server-home.ts'

export interface EmbeddedPostgresOptions {
  /** The root of the checkout: only used to name a place outside it. */
  checkout: string
  /** Where the server may keep its directory `postgres`. */
  directory: string
  /** Databases to make, owned by ROLE, when the server is made. */
  databases: string[]
  /** False for tests: nothing is forced to disk, so a crash of the machine may lose everything. */
  durable: boolean
}

export interface EmbeddedPostgres {
  /** The data directory, for people to know. */
  directory: string
  /** The URL of one of its databases for ROLE, which is not a superuser, as on a host. Carries a password. */
  url: (database: string) => string
  /** Stops the server in an orderly way; nothing committed is lost. Safe to call twice. */
  stop: () => Promise<void>
}

/** The role that owns the databases: it may make databases, and is not a superuser. */
export const ROLE = 'monogram'

const START_SECONDS = 60
const STOP_SECONDS = 20
const START_ATTEMPTS = 3
const CONNECTIONS = 300
const LOG_BYTES_MAX = 10_000_000

/**
 * Starts a real PostgreSQL of this checkout's own, in a session of its own (so Ctrl-C in the terminal reaches us but
 * not it), on a free port of the loopback address that it remembers. A server that still runs there, because whoever
 * started it was killed, is used as it is. Works as root and as an ordinary user. Throws with the end of the server's
 * log when it does not start.
 */
export async function startEmbeddedPostgres(options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  const home = await serverHome(options.checkout, options.directory)
  const binaries = await binariesFor(options.checkout, home.account)
  const memory = await recallMemory(home)
  await keepMemory(home, memory)
  if (existsSync(home.data)) await refuseOtherMajor(home, binaries)
  else await initialise(home, binaries, { ...options, password: memory.password, role: ROLE })
  const running = await findPostmaster(home.data)
  const port = running?.port ?? (await start(home, binaries, memory.port, options.durable))
  await keepMemory(home, { ...memory, port })
  return {
    directory: home.data,
    url: (database) => `postgres://${ROLE}:${memory.password}@${LOOPBACK}:${port}/${database}`,
    stop: () => stop(home, binaries),
  }
}

/** Stops the server that `startEmbeddedPostgres` made there and that a start which was killed has left, if any. */
export async function endLeftoverPostgres(checkout: string, directory: string): Promise<void> {
  if (!existsSync(join(directory, 'postgres'))) return
  const home = await serverHome(checkout, directory)
  await stop(home, await binariesFor(checkout, home.account))
}

/** Stops the server that `startEmbeddedPostgres` made there, if it runs, and removes everything it kept. */
export async function removeEmbeddedPostgres(checkout: string, directory: string): Promise<void> {
  const home = await serverHome(checkout, directory)
  await stop(home, await binariesFor(checkout, home.account))
  await rm(home.directory, { recursive: true, force: true })
}

async function start(home: ServerHome, binaries: Binaries, preferredPort: number, durable: boolean): Promise<number> {
  await truncateLog(home)
  for (let attempt = 1; ; attempt++) {
    const port = await freePort(preferredPort)
    const args = ['start', '-t', String(START_SECONDS), '-l', home.log, '-o', settings(port, durable)]
    const failure = await pgCtl(home, binaries, args).catch(asError)
    if (failure === undefined) return port
    // Somebody may have taken the port between our look and the server's: try another, but not for ever.
    if (attempt === START_ATTEMPTS) throw new Error(`PostgreSQL does not start.\n${await endOfLog(home)}`, { cause: failure })
  }
}

async function stop(home: ServerHome, binaries: Binaries): Promise<void> {
  if ((await findPostmaster(home.data)) === undefined) return
  const failure = await pgCtl(home, binaries, ['stop', '-m', 'fast', '-t', String(STOP_SECONDS)]).catch(asError)
  if (failure === undefined || (await findPostmaster(home.data)) === undefined) return
  // Recovery at the next start replays what an immediate stop leaves: nothing committed is lost.
  await pgCtl(home, binaries, ['stop', '-m', 'immediate', '-t', String(STOP_SECONDS)])
}

/** What differs from PostgreSQL's defaults, as words of a command line: no value may need quoting. */
function settings(port: number, durable: boolean): string {
  const values = [
    `listen_addresses=${LOOPBACK}`,
    `port=${port}`,
    'unix_socket_directories=',
    `max_connections=${CONNECTIONS}`,
    ...(durable ? [] : ['fsync=off', 'full_page_writes=off']),
  ]
  return values.map((value) => `-c ${value}`).join(' ')
}

async function refuseOtherMajor(home: ServerHome, binaries: Binaries): Promise<void> {
  const made = (await readFile(`${home.data}/PG_VERSION`, 'utf8')).trim()
  const version = await runCommand(binaries.postgres, ['--version'], { account: home.account })
  if (new RegExp(`\\b${made}\\b`).test(version)) return
  throw new Error(`${home.data} was made by PostgreSQL ${made}; this is ${version.trim()}. Start with --fresh to make it anew.`)
}

async function pgCtl(home: ServerHome, binaries: Binaries, args: string[]): Promise<undefined> {
  await runCommand(binaries.pg_ctl, ['-D', home.data, '-w', '-s', ...args], { account: home.account })
  return undefined
}

async function truncateLog(home: ServerHome): Promise<void> {
  const text = await readFile(home.log).catch(() => undefined)
  if (text !== undefined && text.length > LOG_BYTES_MAX) await truncate(home.log)
}

async function endOfLog(home: ServerHome): Promise<string> {
  const text = await readFile(home.log, 'utf8').catch(() => '')
  return text.split('\n').slice(-15).join('\n')
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error))
}
