import { sql, type Kysely } from 'kysely'

/**
 * A place in a server's write-ahead log: whoever has replayed up to there has all that was committed before it. LSNs
 * compare only within one history: to another server, or since a promotion, they mean nothing.
 */
export interface WalPosition {
  /** The system identifier that a primary shares with its replicas, and the timeline: `<identifier>/<timeline>`. */
  readonly history: string
  readonly lsn: bigint
}

/** What a replica says of itself. */
export interface ReplayState {
  /** False once it has been promoted. */
  readonly isReplica: boolean
  readonly position: WalPosition
}

interface PositionRow {
  readonly system: bigint
  readonly timeline: number
  readonly lsn: bigint
}

/** The timeline that is being written; pg_control has it only from the first checkpoint after a promotion on. */
const TIMELINE = sql`('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int`

/**
 * The position up to which a primary's log is on its disk: every commit that has been answered lies before it.
 *
 * @throws whatever PostgreSQL says; 55000 when it is a replica
 */
export async function readFlushedPosition<DB>(primary: Kysely<DB>): Promise<WalPosition> {
  const { rows } = await sql<PositionRow>`
    select system_identifier as system, ${TIMELINE} as timeline, (pg_current_wal_flush_lsn() - '0/0')::bigint as lsn
    from pg_control_system()`.execute(primary)
  return positionOf(rows[0])
}

/**
 * As an SQL text, to be read by `parsePosition`: a position on a primary behind everything that the statement sees,
 * also what was committed without waiting for the disk.
 */
export const writtenPosition = sql<string>`(select concat(system_identifier, '/', ${TIMELINE}, '/', pg_current_wal_insert_lsn() - '0/0')
  from pg_control_system())`

/** @throws TypeError for any other text */
export function parsePosition(text: string): WalPosition {
  const [, history, lsn] = /^(\d+\/\d+)\/(\d+)$/.exec(text) ?? []
  if (history === undefined || lsn === undefined) throw new TypeError(`${text} is no position of a log`)
  return { history, lsn: BigInt(lsn) }
}

/**
 * How far a replica has replayed. Its timeline may be an older one for a while after it has followed its primary to
 * another: until it says the same as the primary nothing is compared.
 *
 * @throws whatever PostgreSQL says
 */
export async function readReplayState<DB>(replica: Kysely<DB>): Promise<ReplayState> {
  const { rows } = await sql<PositionRow & { is_replica: boolean }>`
    select pg_is_in_recovery() as is_replica, system_identifier as system,
      greatest(timeline_id, min_recovery_end_timeline) as timeline,
      coalesce(pg_last_wal_replay_lsn() - '0/0', 0)::bigint as lsn
    from pg_control_system(), pg_control_checkpoint(), pg_control_recovery()`.execute(replica)
  return { isReplica: rows[0]?.is_replica === true, position: positionOf(rows[0]) }
}

function positionOf(row: PositionRow | undefined): WalPosition {
  if (row === undefined) throw new TypeError('pg_control_system() gives one row')
  return { history: `${row.system}/${row.timeline}`, lsn: row.lsn }
}

export const POSITION_BYTES = 20

/* system identifier (8) | timeline (4) | LSN (8); zeros for null, as no server has that identifier. */

export function packPosition(position: WalPosition | null): Buffer {
  const packed = Buffer.alloc(POSITION_BYTES)
  if (position === null) return packed
  const [system = '', timeline = ''] = position.history.split('/')
  packed.writeBigUInt64BE(BigInt(system), 0)
  packed.writeUInt32BE(Number(timeline), 8)
  packed.writeBigUInt64BE(position.lsn, 12)
  return packed
}

/** What `packPosition` has packed. */
export function unpackPosition(packed: Buffer, at: number): WalPosition | null {
  const system = packed.readBigUInt64BE(at)
  if (system === 0n) return null
  return { history: `${system}/${packed.readUInt32BE(at + 8)}`, lsn: packed.readBigUInt64BE(at + 12) }
}
