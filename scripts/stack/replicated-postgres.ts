import { existsSync } from 'node:fs'
import { rename, rm } from 'node:fs/promises'
import { LOOPBACK } from './free-port.ts'
import { systemPrograms } from './postgres-programs.ts'
import type { Programs } from './postgres-programs.ts'
import { pgCtl, placeFor, remove, run, startPostgres, stop, SUPERUSER } from './postgres-server.ts'
import type { Place, PostgresOptions, PostgresServer } from './postgres-server.ts'
import { runCommand } from './run-command.ts'
import { keepMemory, recallMemory, writeOwned } from './server-home.ts'

export interface StandbyOptions extends Omit<PostgresOptions, 'databases'> {
  /** Lower-case letters, digits and underscores; unique among the standbys of a primary. */
  name: string
  primary: PostgresServer
  /** How long after it was made a change is replayed; at once when not said. */
  applyDelayMs?: number
}

/** A server that replays what a primary does, and answers reads meanwhile. */
export interface Standby extends PostgresServer {
  /** Makes a primary of it, whatever has become of its own. */
  promote: () => Promise<void>
}

/** What a standby that is away may make its primary keep; one that is away for longer has to be made anew. */
const SLOT_WAL_MAX = '2GB'
/** pg_basebackup makes its slot a moment after its backup began, in which a checkpoint may drop what it needs. */
const WAL_KEPT = '64MB'
const PROMOTE_SECONDS = 60

/**
 * Starts a PostgreSQL that may have standbys, by the programs of the system's package, which is installed first when it
 * is missing. All that `startPostgres` says holds.
 */
export function startPrimary(options: PostgresOptions): Promise<PostgresServer> {
  const settings = { max_slot_wal_keep_size: SLOT_WAL_MAX, wal_keep_size: WAL_KEPT, ...options.settings }
  return startPostgres({ ...options, settings }, systemPrograms)
}

/**
 * Starts a streaming standby of a primary that runs: made by pg_basebackup when there is none yet, with a replication
 * slot, so that it finds what it missed. Resolves when it answers reads.
 */
export async function startStandby(options: StandbyOptions): Promise<Standby> {
  const programs = await systemPrograms()
  const place = await placeFor(options, () => Promise.resolve(programs))
  const { home } = place
  const primary = new URL(options.primary.superuserUrl('postgres'))
  const memory = { ...(await recallMemory(home)), password: primary.password }
  await keepMemory(home, memory)
  if (!existsSync(home.data)) await copyPrimary(place, programs, options.name, primary)
  // Not the primary's own, and anew each time: it may have come back on another port.
  await writeOwned(home, 'data/postgresql.auto.conf', standbySettings(options, primary))
  const server = await run(place, memory)
  return {
    ...server,
    async promote() {
      await pgCtl(place, ['promote', '-t', String(PROMOTE_SECONDS)])
    },
  }
}

/** Stops the primary or standby of a directory that a start which was killed has left, if any. */
export async function endLeftoverServer(checkout: string, directory: string): Promise<void> {
  if (existsSync(`${directory}/postgres`)) await stop(await systemPlace(checkout, directory))
}

/** Stops the primary or standby of a directory, if it runs, and removes everything it kept. */
export async function removeServer(checkout: string, directory: string): Promise<void> {
  await remove(await systemPlace(checkout, directory))
}

function systemPlace(checkout: string, directory: string): Promise<Place> {
  return placeFor({ checkout, directory, durable: true }, systemPrograms)
}

/** A copy cut short leaves a draft and perhaps its slot, which the next one replaces. */
async function copyPrimary({ home, durable }: Place, programs: Programs, name: string, primary: URL): Promise<void> {
  const draft = `${home.data}.draft`
  const as = { account: home.account, env: { PGPASSWORD: primary.password } }
  const where = ['-d', `host=${LOOPBACK} port=${primary.port} user=${SUPERUSER}`, '-w', '-S', name]
  if (existsSync(draft)) await runCommand(programs.pg_receivewal, [...where, '--drop-slot'], as).catch(() => undefined)
  await rm(draft, { recursive: true, force: true })
  const how = ['-D', draft, '--create-slot', '--checkpoint=fast', '--wal-method=stream', ...(durable ? [] : ['--no-sync'])]
  await runCommand(programs.pg_basebackup, [...where, ...how], as)
  await writeOwned(home, 'data.draft/standby.signal', '')
  await rename(draft, home.data)
}

function standbySettings({ name, applyDelayMs = 0 }: StandbyOptions, primary: URL): string {
  const connection = `host=${LOOPBACK} port=${primary.port} user=${SUPERUSER} password=${primary.password} application_name=${name}`
  return [
    `primary_conninfo = '${connection}'`,
    `primary_slot_name = '${name}'`,
    `recovery_min_apply_delay = '${applyDelayMs}ms'`,
    '',
  ].join('\n')
}
