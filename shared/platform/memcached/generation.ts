import { randomUUID } from 'node:crypto'
import { sql, type Kysely, type QueryExecutorProvider } from 'kysely'
import type { Clock } from '#kernel/clock.ts'
import type { Logger } from '../logger/logger.ts'
import type { CacheServer } from './server-list.ts'

/*
 * Keys carry a generation, so that what was stored before some process wrote without deleting is never read again.
 * The argument, for a value of generation g on ring r:
 *
 * 1. A process reads and fills it only between a visit to the directory at which it was allowed to (g was the
 *    generation, r one of the rings, nobody in the way) and the end of its permit, by its own monotonic clock from
 *    before that visit. Each visit is recorded (cache_users) in a transaction that holds the state's row shared.
 * 2. A process that writes without deleting under g on r (it runs without the cache, or on rings without r, or is of
 *    another generation) first changes the state, which waits for those transactions, and then waits until no visitor
 *    that reads in the old way can have a permit left: each has come by again, which takes a second, or is overdue.
 *    Only then does it go on to serve (`detachCache`, `attach`).
 * 3. The reverse: a process is not allowed to read while some visitor reads another generation or does not delete on
 *    the first one's ring. Processes that run without the cache do not visit. So the cache is not read until
 *    `attachMs` after it was switched on, by when those have gone: the one assumption about people in here. It does
 *    not apply to a database that no process without the cache has ever started on.
 * 4. A ring that is about to be used (MEMCACHE_SERVERS_NEXT) may hold values from an earlier life. It takes over the
 *    generation only when all visitors have deleted on it for longer than any value lives; otherwise a new one begins.
 * 5. A process whose permit is over cannot tell which generation is read, so none of its deletes counts as confirmed:
 *    the invalidation rows stay for a process that can.
 *
 * The price: a directory that is away for longer than the permit takes the cache with it, until it is back.
 */

/** A process's part in the generation of the cache. */
export interface GenerationHolder {
  /** The generation to read, fill and delete with now; null while there is none for us. */
  current(): bigint | null
  /** Visits the directory now rather than at the next turn. */
  visit(): Promise<void>
  /** Ends the permit and tells the others. */
  close(): Promise<void>
}

export interface GenerationOptions {
  readonly servers: readonly CacheServer[]
  readonly nextServers: readonly CacheServer[]
  readonly attachMs: number
  readonly log: Logger
  readonly clock: Clock
  readonly timing?: GenerationTiming
}

export interface GenerationTiming {
  readonly visitEveryMs: number
  /** How long a permit holds after the visit that gave it. */
  readonly permitMs: number
  /** How long the others take it to hold: longer, for clocks that run at different speeds. */
  readonly overdueMs: number
  /** Longer than any value lives. */
  readonly preparedMs: number
}

export const TIMING: GenerationTiming = { visitEveryMs: 1_000, permitMs: 25_000, overdueMs: 30_000, preparedMs: 660_000 }
const WAIT_POLL_MS = 100

interface State {
  readonly generation: bigint
  readonly ring: string | null
  readonly other_ring: string | null
}

/**
 * Says that this process runs without the cache, which ends the present generation, and waits until nobody reads it.
 * To be called before the process serves. When the cache has been off anyway this is one statement.
 * @throws whatever PostgreSQL says
 */
export async function detachCache<DB>(directory: Kysely<DB>, timing: GenerationTiming = TIMING): Promise<void> {
  await sql`update cache_state set generation = generation + (ring is not null)::int, ring = null, other_ring = null,
    other_since = null, was_off = true where ring is not null or not was_off`.execute(directory)
  await untilUnread(directory, null, [], timing)
}

/**
 * Says that this process runs with the cache, and joins the present generation or begins a new one; waits until nobody
 * reads what this process would not delete. Visits go on in the background.
 * @throws whatever PostgreSQL says at the first visit
 */
export async function holdGeneration<DB>(directory: Kysely<DB>, options: GenerationOptions): Promise<GenerationHolder> {
  const { clock, log, timing = TIMING } = options
  const userId = randomUUID()
  const ring = ringName(options.servers)
  const otherRing = options.nextServers.length === 0 ? null : ringName(options.nextServers)
  let permit: { readonly generation: bigint; readonly untilMs: number } | null = null
  let timer: NodeJS.Timeout | undefined
  let visiting: Promise<void> | undefined
  let isClosed = false

  async function visitOnce(): Promise<void> {
    const startedMs = clock.monotonicMs()
    const { generation, lacksOther } = await recordVisit(directory, { userId, ring, otherRing }, timing)
    if (generation !== (permit?.generation ?? null)) {
      log.info({ generation: generation?.toString() ?? null }, generation === null ? 'the cache is not read' : 'the cache is read')
    }
    permit = generation === null || isClosed ? null : { generation, untilMs: startedMs + timing.permitMs }
    if (lacksOther) await sql`update cache_state set other_since = now() where other_ring is not null`.execute(directory)
  }

  function visit(): Promise<void> {
    return (visiting ??= visitOnce().finally(() => {
      visiting = undefined
    }))
  }

  function plan(): void {
    if (isClosed) return
    timer = setTimeout(() => {
      visit()
        .catch((error: unknown) => log.warn({ err: error }, 'the directory does not say whether the cache may be read'))
        .finally(plan)
    }, timing.visitEveryMs)
    timer.unref()
  }

  const generation = await attach(directory, { ring, otherRing }, options.attachMs, timing)
  await untilUnread(directory, generation, otherRing === null ? [ring] : [ring, otherRing], timing)
  await visit()
  plan()
  return {
    current: () => (permit !== null && clock.monotonicMs() < permit.untilMs ? permit.generation : null),
    visit,
    async close() {
      isClosed = true
      clearTimeout(timer)
      permit = null
      await visiting?.catch(() => undefined)
      await sql`delete from cache_users where user_id = ${userId}::uuid`.execute(directory).catch((error: unknown) => {
        log.warn({ err: error }, 'could not sign off from the cache; it is taken to be read for half a minute')
      })
    },
  }
}

interface Rings {
  readonly ring: string
  readonly otherRing: string | null
}

/** Decides which generation goes on or begins, now that a process with these rings starts. */
async function attach<DB>(directory: Kysely<DB>, rings: Rings, attachMs: number, timing: GenerationTiming): Promise<bigint> {
  return directory.transaction().execute(async (trx) => {
    const { rows } = await sql<State & { was_off: boolean; is_prepared: boolean }>`
      select generation, ring, other_ring, was_off,
        coalesce(other_since < now() - ${timing.preparedMs} * interval '1 millisecond', false) as is_prepared
      from cache_state for update`.execute(trx)
    const [state] = rows
    if (state === undefined) throw new Error('cache_state has lost its row')
    const isSame = state.ring === rings.ring
    const isSwitch = state.is_prepared && state.other_ring === rings.ring && state.ring === rings.otherRing
    if (isSame || isSwitch) {
      await sql`update cache_state set ring = ${rings.ring}, other_ring = ${rings.otherRing}::text,
        other_since = case when ${rings.otherRing}::text is null then null
          when other_ring = ${rings.otherRing}::text or ${isSwitch} then other_since else now() end`.execute(trx)
      return state.generation
    }
    // Switched on (and not for the first time): processes without the cache may be about to leave.
    const waitMs = state.ring === null && state.was_off ? attachMs : 0
    await sql`update cache_state set generation = generation + 1, ring = ${rings.ring}, other_ring = ${rings.otherRing}::text,
      other_since = case when ${rings.otherRing}::text is null then null else now() end,
      usable_from = greatest(usable_from, now() + ${waitMs} * interval '1 millisecond')`.execute(trx)
    return state.generation + 1n
  })
}

interface Visit {
  /** What the visitor may read; null: nothing. */
  readonly generation: bigint | null
  /** The visitor does not delete on the other ring. */
  readonly lacksOther: boolean
}

async function recordVisit<DB>(
  directory: Kysely<DB>,
  { userId, ring, otherRing }: Rings & { readonly userId: string },
  timing: GenerationTiming,
): Promise<Visit> {
  return directory.transaction().execute(async (trx) => {
    const { rows } = await sql<State & { is_usable: boolean }>`
      select generation, ring, other_ring, usable_from <= clock_timestamp() as is_usable
      from cache_state for share`.execute(trx)
    const [state] = rows
    if (state === undefined) throw new Error('cache_state has lost its row')
    const mayRead = state.is_usable && (ring === state.ring || (state.ring !== null && ring === state.other_ring))
    // A statement of its own: its snapshot is from after the lock, so it sees every visit that the lock let by.
    const visited = await sql<{ generation: bigint | null }>`
      insert into cache_users (user_id, ring, other_ring, generation, seen_at)
      select ${userId}::uuid, ${ring}::text, ${otherRing}::text,
        case when ${mayRead} and not exists (
          select from cache_users where user_id <> ${userId}::uuid and ${fresh(timing)}
            and (generation <> ${state.generation} or (ring <> ${ring} and other_ring is distinct from ${ring}))
        ) then ${state.generation}::bigint end,
        clock_timestamp()
      on conflict (user_id) do update
        set generation = excluded.generation, seen_at = excluded.seen_at
      returning generation`.execute(trx)
    const lacksOther = state.other_ring !== null && state.other_ring !== ring && state.other_ring !== otherRing
    return { generation: visited.rows[0]?.generation ?? null, lacksOther }
  })
}

/** Waits until every visitor that may still read reads this generation, on one of these rings; forgets the overdue. */
async function untilUnread<DB>(
  directory: Kysely<DB>,
  generation: bigint | null,
  rings: readonly string[],
  timing: GenerationTiming,
): Promise<void> {
  while (await isReadOtherwise(directory, generation, rings, timing)) {
    await new Promise((resolve) => setTimeout(resolve, WAIT_POLL_MS))
  }
  await sql`delete from cache_users where not ${fresh(timing)}`.execute(directory)
}

async function isReadOtherwise(
  db: QueryExecutorProvider,
  generation: bigint | null,
  rings: readonly string[],
  timing: GenerationTiming,
): Promise<boolean> {
  const { rows } = await sql`select from cache_users where ${fresh(timing)} and generation is not null
    and (generation is distinct from ${generation}::bigint or ring <> all (${[...rings]}::text[])) limit 1`.execute(db)
  return rows.length > 0
}

function fresh(timing: GenerationTiming) {
  return sql<boolean>`seen_at > clock_timestamp() - ${timing.overdueMs} * interval '1 millisecond'`
}

/** The same for the same servers in any order. */
function ringName(servers: readonly CacheServer[]): string {
  return servers
    .map(({ name }) => name)
    .sort()
    .join(',')
}
