import type { Shard } from '#kernel/snowflake.ts'
import type { Clock } from '#kernel/clock.ts'
import type { NodeConfig } from '#platform/config/database.ts'
import { systemSleep } from '#platform/id-lease/sleep.ts'
import type { Logger } from '#platform/logger/logger.ts'
import { completeHandover } from '#platform/postgres/handover.ts'
import { MAP_LEASE_MS } from '#platform/postgres/map-lease.ts'
import {
  announceAgain,
  announceMoves,
  asOnlyMover,
  endMoves,
  findForgottenMoves,
  readMoves,
  type AnnouncedMove,
} from '#platform/postgres/shard-moves/announcements.ts'
import { moveShard, type Mover, type MoveStep, type MoveVia, type ShardMoved } from '#platform/postgres/shard-moves/move-shard.ts'
import { openEnds, type OpenEnds } from '#platform/postgres/shard-moves/open-ends.ts'
import { abandonReplication, endReplication } from '#platform/postgres/shard-moves/replication.ts'
import { ShardRefusedError } from '#platform/postgres/shard-moves/shard-refused.ts'
import { whileAtHome } from '#platform/postgres/shard-moves/while-at-home.ts'
import type { AppRouter, Database } from '../database.ts'
import { arriveShard, estimateArrival } from './arrive-shard.ts'
import { SHARDED_TABLES, tablesOfMove } from './sharded-tables.ts'

/** What moving shards is done with. */
export interface MoveContext {
  readonly router: AppRouter
  /** The nodes of the router: copies go past any pooler. */
  readonly config: { readonly nodes: readonly NodeConfig[] }
  readonly clock: Pick<Clock, 'nowMs'>
  readonly log: Logger
  /** How time passes; a test has its own. */
  readonly sleep?: (ms: number) => Promise<void>
}

export interface MoveRequest {
  readonly shards: readonly Shard[]
  /** The name of a node. */
  readonly to: string
  /** Of one shard; `MAX_PAUSE_MS` when not said. */
  readonly maxPauseMs?: number
  /** `copy` when not said. */
  readonly via?: MoveVia
}

/** Tells of a move as it goes. */
export interface MoveWatch {
  /** How many shards are about to move, those of an earlier command included. */
  begin?(shards: number): void
  /** Each step of each shard when it is done; the move goes on when this settles. */
  step?(step: MoveStep, shard: Shard): Promise<void>
  moved?(shard: ShardMoved): void
}

export interface MoveReport {
  readonly moved: readonly ShardMoved[]
  /** Shards that are where they were, and why. */
  readonly stayed: readonly ShardReason[]
  /**
   * Shards that have left and not arrived, or of which nobody knows, as a node is away or a commit in doubt: still
   * announced, and to be moved on by another command.
   */
  readonly unfinished: readonly ShardReason[]
}

/** What became of announced moves that were called off. */
export interface CallOffReport extends Pick<MoveReport, 'stayed' | 'unfinished'> {
  /** Shards that had departed, and are at their target now. */
  readonly arrived: readonly Shard[]
}

export interface ShardReason {
  readonly shard: Shard
  readonly reason: string
}

/** The longest that writes of one shard wait while it moves, unless said otherwise. */
export const MAX_PAUSE_MS = 5_000
/** Beyond the lease: for clocks that run at different speeds, and a garbage collection. */
const LEASE_MARGIN_MS = 1_000

/**
 * Moves logical shards to another node while everything runs, and first of all those that an earlier command has left
 * under way, also where only the nodes still know of them. Shards that are there already are none of its business. Run
 * again after whatever end it goes on where it stopped. See docs/adr/0018 and the protocol in `moveShard`.
 *
 * @throws MoverBusyError; Error when there is no such node, or the directory cannot be reached
 */
export async function moveShards(context: MoveContext, request: MoveRequest, watch: MoveWatch = {}): Promise<MoveReport> {
  const { router, config, log, sleep = systemSleep } = context
  nodeNamed(router, request.to)
  const ends = openEnds(config.nodes, log)
  const directory = router.directory.primary
  return asOnlyMover(directory, async (assertOnly) => {
    await recallMoves(context)
    await announceMoves(directory, request.shards, request.to)
    const moves = await readMoves(directory)
    watch.begin?.(moves.length)
    if (moves.length === 0) return { moved: [], stayed: [], unfinished: [] }
    await sleep(MAP_LEASE_MS + LEASE_MARGIN_MS)
    const { moved, failed } = await moveAll(context, moves, request, ends, assertOnly, watch)
    await router.refresh()
    // Whoever holds a map in which they move asks the nodes; it is to have a newer one before that is called over.
    await sleep(MAP_LEASE_MS + LEASE_MARGIN_MS)
    const stayed: ShardReason[] = []
    const unfinished: ShardReason[] = []
    for (const { move, reason } of failed) {
      const list = (await endAtHome(router, move, ends, assertOnly).catch(() => false)) ? stayed : unfinished
      list.push({ shard: move.shard, reason })
    }
    const open = new Set(failed.map(({ move }) => move.moveId))
    await endMoves(directory, moves.flatMap(({ moveId }) => (open.has(moveId) ? [] : [moveId])))
    await router.refresh()
    return { moved, stayed, unfinished }
  }).finally(() => ends.discard())
}

/**
 * Calls off the moves that are announced: a shard that has departed arrives, all others stay.
 *
 * @throws MoverBusyError; Error when the directory cannot be reached
 */
export async function callOffMoves(context: MoveContext): Promise<CallOffReport> {
  const { router, config, log } = context
  const directory = router.directory.primary
  const ends = openEnds(config.nodes, log)
  return asOnlyMover(directory, async (assertOnly) => {
    const moves = await readMoves(directory)
    const stayed: ShardReason[] = []
    const arrived: Shard[] = []
    const unfinished: ShardReason[] = []
    for (const move of moves) {
      try {
        if (await endAtHome(router, move, ends, assertOnly)) {
          stayed.push({ shard: move.shard, reason: 'called off' })
        } else {
          await complete(context, move)
          await endReplication(await ends.to(move.source), () => ends.to(move.target), move.moveId)
          await endMoves(directory, [move.moveId])
          arrived.push(move.shard)
        }
      } catch (error) {
        await ends.discard()
        unfinished.push({ shard: move.shard, reason: describe(error) })
      }
    }
    return { stayed, arrived, unfinished }
  }).finally(() => ends.discard())
}

/** Announces what the directory has forgotten and the nodes have not. A node that is away tells nothing. */
async function recallMoves({ router, log }: MoveContext): Promise<void> {
  const directory = router.directory.primary
  for (const node of router.nodes) {
    try {
      await announceAgain(directory, await findForgottenMoves(directory, node))
    } catch (error) {
      log.warn({ err: error, node: node.name }, 'a node could not be asked for forgotten moves')
    }
  }
}

/** A shard that did not arrive. Whether it is still at home is another question. */
interface FailedMove {
  readonly move: AnnouncedMove
  readonly reason: string
}

async function moveAll(
  context: MoveContext,
  moves: readonly AnnouncedMove[],
  { maxPauseMs = MAX_PAUSE_MS, via = 'copy' }: MoveRequest,
  ends: OpenEnds,
  assertOnly: () => Promise<void>,
  watch: MoveWatch,
): Promise<{ readonly moved: readonly ShardMoved[]; readonly failed: readonly FailedMove[] }> {
  const { router, clock, log, sleep = systemSleep } = context
  const moved: ShardMoved[] = []
  const failed: FailedMove[] = []
  /** Why nothing more goes between two nodes. */
  const broken = new Map<string, string>()
  const mover: Omit<Mover<Database>, 'tables'> = {
    directory: router.directory.primary,
    onArrival: (trx, shard) => arriveShard(trx, shard, clock.nowMs()),
    arrivalMs: (target, shard) => estimateArrival(target, shard, clock.nowMs()),
    ends,
    via,
    assertOnly,
    maxPauseMs,
    sleep,
    onStep: async (step, shard) => watch.step?.(step, shard),
  }
  for (const move of moves) {
    const pair = `${move.source} → ${move.target}`
    let reason = broken.get(pair)
    if (reason === undefined) {
      try {
        const done = await moveShard(
          { ...mover, tables: tablesOfMove(clock.nowMs()) },
          move,
          nodeNamed(router, move.source),
          nodeNamed(router, move.target),
        )
        moved.push(done)
        watch.moved?.(done)
        continue
      } catch (error) {
        await ends.discard()
        reason = describe(error)
        log.warn({ err: error, shard: move.shard }, 'a logical shard did not move')
        // What is wrong with this shard alone is none of the others' business.
        if (!(error instanceof ShardRefusedError)) broken.set(pair, reason)
        // Its slot is not to be missed by the next one; if this fails, too, it is done before the announcement ends.
        if (via === 'replication') await abandon(ends, move).catch(() => undefined)
      }
    }
    failed.push({ move, reason })
  }
  return { moved, failed }
}

/**
 * Ends the announcement of a shard that has not left its source, where it is kept meanwhile, and first what replication
 * has begun for it.
 *
 * @returns false when it has left: it stays announced
 * @throws what a node says; Error when its door is not to be had
 */
async function endAtHome(
  router: AppRouter,
  move: AnnouncedMove,
  ends: OpenEnds,
  assertOnly: () => Promise<void>,
): Promise<boolean> {
  return whileAtHome(nodeNamed(router, move.source).primary, move.shard, async () => {
    await abandon(ends, move)
    await assertOnly()
    await endMoves(router.directory.primary, [move.moveId])
  })
}

/** Removes what replication has left of a move; mostly nothing. @throws what a node says; Error when the shard has departed */
async function abandon(ends: OpenEnds, move: AnnouncedMove): Promise<void> {
  try {
    await abandonReplication(await ends.to(move.source), () => ends.to(move.target), move, SHARDED_TABLES.replicated)
  } catch (error) {
    await ends.discard()
    throw error
  }
}

/** Brings a shard that has departed to its target. */
async function complete({ router, clock }: MoveContext, { shard, moveId, source, target }: AnnouncedMove): Promise<void> {
  await completeHandover<Database>({
    shard,
    moveId,
    source,
    target: nodeNamed(router, target),
    directory: router.directory.primary,
    onArrival: (trx) => arriveShard(trx, shard, clock.nowMs()),
  })
}

function describe(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

function nodeNamed(router: AppRouter, name: string): AppRouter['directory'] {
  const node = router.nodes.find((found) => found.name === name)
  if (node === undefined) {
    throw new Error(`There is no node ${name}; DATABASE_NODES lists ${router.nodes.map((found) => found.name).join(', ')}.`)
  }
  return node
}
