import { SingleBar } from 'cli-progress'
import { Command, InvalidArgumentError, Option } from 'commander'
import { systemClock } from '#kernel/clock.ts'
import { SHARD_COUNT, type Shard } from '#kernel/snowflake.ts'
import type { AppRouter, Database, Trx } from '#domain/database.ts'
import { arriveShard } from '#domain/shards/arrive-shard.ts'
import { checkNewNode } from '#domain/shards/check-node.ts'
import { cleanShards } from '#domain/shards/clean-shards.ts'
import { estimateMoves, type MoveEstimate } from '#domain/shards/estimate-moves.ts'
import { callOffMoves, MAX_PAUSE_MS, moveShards, type MoveContext, type MoveReport } from '#domain/shards/move-shards.ts'
import { readBalance } from '#domain/shards/node-balance.ts'
import { removeNode } from '#domain/shards/remove-node.ts'
import { formatShards, parseShards } from '#domain/shards/shard-ranges.ts'
import { migrations } from '#migrations/migrations.ts'
import { loadNodes } from '#platform/config/config.ts'
import { createLogger } from '#platform/logger/logger.ts'
import { assertMigrated } from '#platform/postgres/migrate.ts'
import { setNodeWeights } from '#platform/postgres/node-weights.ts'
import { openRouter } from '#platform/postgres/router.ts'
import { WEIGHT_MAX } from '#platform/postgres/shard-map.ts'
import { findForgottenMoves, readMoves } from '#platform/postgres/shard-moves/announcements.ts'
import { MOVE_VIAS, type MoveVia } from '#platform/postgres/shard-moves/move-shard.ts'
import { findLeftovers } from '#platform/postgres/shard-moves/clean-shard.ts'

/** One for the lock of the mover, one for the door, one to end an announcement behind it, one for the map. */
const CONNECTIONS_MAX = 4
const SAMPLE_SECONDS = 5
const MB = 1_000_000
/** Something is not done: to be told from an error of usage, which is 1. */
const NOT_ALL_DONE = 2

const program = new Command('shards')
  .description('Shows on which nodes the logical shards are, and moves them from one to another while everything runs.')
  .addHelpText(
    'after',
    `
Typical use, once the new node is in DATABASE_NODES of every process and migrated:

  node scripts/shards.ts balance
  node scripts/shards.ts move --from DATABASE_URL --count 2048 --to SECOND_URL --dry-run
  node scripts/shards.ts move --from DATABASE_URL --count 2048 --to SECOND_URL

Reads DATABASE_URL, or the variables that DATABASE_NODES lists; nodes go by these names. A move that was stopped, however
that happened, goes on when the same command runs again. Output is tab-separated.`,
  )

program.command('map').description('which shards are on which node: node, how many, ranges').action(() => onRouter(showMap))
program
  .command('balance')
  .description('shards, accounts, rows, MB and writes per second of each node, by the statistics of PostgreSQL')
  .option('--seconds <count>', 'for how long writes are watched', parseWhole, SAMPLE_SECONDS)
  .action(({ seconds }: { seconds: number }) => onRouter((context) => showBalance(context, seconds)))
program
  .command('status')
  .description('moves that are announced, and what shards have left behind')
  .action(() => onRouter(showStatus))
program
  .command('add-node')
  .argument('<node>', 'its name in DATABASE_NODES')
  .description('checks that a new node answers, is migrated and empty; shards come to it by being moved')
  .action((name: string) => onRouter((context) => addNode(context, name)))
program
  .command('remove-node')
  .argument('<node>', 'its name in DATABASE_NODES')
  .description('takes from a node without shards what is still of use on it, so that it may leave DATABASE_NODES')
  .action((name: string) => onRouter((context) => takeOut(context, name)))
program
  .command('weights')
  .argument('[weights...]', 'such as DATABASE_URL=0 SECOND_URL=100', collectWeight)
  .description(`shows, or sets, how readily new accounts go to the shards of each node: 0 to ${WEIGHT_MAX}, the default`)
  .action((weights: Map<string, number> | undefined) => onRouter((context) => weigh(context, weights)))
program
  .command('move')
  .argument('[shards]', 'logical shards, such as 0-4095,7', parseList)
  .requiredOption('--to <node>', 'where to')
  .option('--from <node>', 'with --count, in place of a list: the highest of the shards that are there')
  .option('--count <count>', 'how many', parseWhole)
  .option('--max-pause <ms>', 'a shard whose writes would have to wait for longer stays', parseWhole, MAX_PAUSE_MS)
  .addOption(viaOption())
  .option('--dry-run', 'count only, and estimate')
  .description('moves shards, and first those that an earlier command has left under way')
  .action((shards: Shard[] | undefined, options: MoveOptions) => onRouter((context) => move(context, shards, options)))
program
  .command('resume')
  .description('goes on with the moves that are announced, and begins no others')
  .option('--max-pause <ms>', 'as for move', parseWhole, MAX_PAUSE_MS)
  .addOption(viaOption())
  .action((options: Pick<MoveOptions, 'maxPause' | 'via'>) => onRouter((context) => run(context, [], { ...options, to: context.router.directory.name })))
program
  .command('call-off')
  .description('ends the moves that are announced: shards that have not departed stay')
  .action(() => onRouter(callOff))
program
  .command('clean')
  .description('deletes what shards have left where they were, ten minutes after they did; fanout-workers do it, too')
  .action(() => onRouter(clean))

interface MoveOptions {
  readonly to: string
  readonly from?: string
  readonly count?: number
  readonly maxPause: number
  readonly via: MoveVia
  readonly dryRun?: boolean
}

program.parseAsync().catch((error: unknown) => {
  process.stderr.write(`shards: ${error instanceof Error ? error.message : String(error)}\n`)
  process.exitCode = 1
})

async function onRouter(work: (context: MoveContext) => Promise<void>): Promise<void> {
  const nodes = loadNodes(process.env)
  const log = createLogger({ process: 'shards', level: 'silent' })
  const onArrival = (trx: Trx, shard: Shard): Promise<void> => arriveShard(trx, shard, systemClock.nowMs())
  const router = await openRouter<Database>({ nodes, poolMax: CONNECTIONS_MAX, applicationName: 'monogram shards', onArrival }, log)
  try {
    await work({ router, config: { nodes }, clock: systemClock, log })
  } finally {
    await router.close()
  }
}

async function showMap({ router }: MoveContext): Promise<void> {
  const moving = (await readMoves(router.directory.primary)).map(({ shard }) => shard)
  print('version', router.mapVersion)
  for (const { name } of router.nodes) {
    const shards = shardsOf(router, name)
    print(name, shards.length, formatShards(shards))
  }
  print('moving', moving.length, formatShards(moving.toSorted((a, b) => a - b)))
}

async function showBalance({ router }: MoveContext, seconds: number): Promise<void> {
  print('node', 'shards', 'accounts', 'rows', 'MB', 'writes/s')
  for (const { name, shards, accounts, rows, bytes, writesPerSecond } of await readBalance(router, seconds * 1_000)) {
    print(name, shards, accounts, rows, Math.round(bytes / MB), writesPerSecond.toFixed(1))
  }
}

async function addNode({ router }: MoveContext, name: string): Promise<void> {
  const node = nodeNamed(router, name)
  if (shardsOf(router, name).length > 0) throw new Error(`${name} has shards already`)
  await checkNewNode(node)
  print(name, 'is ready: move shards to it')
}

async function takeOut({ router }: MoveContext, name: string): Promise<void> {
  nodeNamed(router, name)
  const { counted, letters } = await removeNode(router, name)
  print(name, `counts of ${counted} accounts`, `${letters} dead letters`, 'are on the other nodes')
  print(name, 'is not needed: take it out of DATABASE_NODES everywhere, restart, and run this once more before its server goes')
}

async function weigh({ router }: MoveContext, weights: ReadonlyMap<string, number> = new Map()): Promise<void> {
  for (const name of weights.keys()) nodeNamed(router, name)
  if (weights.size > 0) {
    await setNodeWeights(router.directory.primary, weights)
    await router.refresh()
  }
  for (const { name } of router.nodes) {
    const [shard] = shardsOf(router, name)
    print(name, shard === undefined ? 'has no shards' : router.weightOf(shard))
  }
}

async function showStatus({ router }: MoveContext): Promise<void> {
  const moves = await readMoves(router.directory.primary)
  print('announced', moves.length)
  for (const { shard, source, target } of moves) print(shard, `${source} → ${target}`)
  for (const node of router.nodes) {
    const forgotten = await findForgottenMoves(router.directory.primary, node)
    if (forgotten.length > 0) print('forgotten', node.name, forgotten.length, formatShards(forgotten.map(({ shard }) => shard)), 'run `resume`')
    const leftovers = await findLeftovers(router.directory.primary, node, router.nodes, 0)
    print('left on', node.name, leftovers.length, formatShards(leftovers.map(({ shard }) => shard)))
  }
}

async function move(context: MoveContext, list: Shard[] | undefined, options: MoveOptions): Promise<void> {
  const { router } = context
  await assertMigrated(nodeNamed(router, options.to), migrations)
  const shards = chooseShards(router, list, options).filter((shard) => router.nodeOf(shard).name !== options.to)
  const bar = progress('counting', shards.length)
  const estimates = await estimateMoves(router, shards, (count) => bar.add(count), options.via)
  bar.end()
  const sum = (of: (estimate: MoveEstimate) => number): number => estimates.reduce((total, estimate) => total + of(estimate), 0)
  const pauses = estimates.map(({ pauseMs }) => pauseMs)
  print('shards', estimates.length)
  print('rows', sum(({ rows }) => rows))
  print('MB', Math.round(sum(({ bytes }) => bytes) / MB))
  print('pause of a shard, ms', `p50 ${quantile(pauses, 0.5)}`, `p99 ${quantile(pauses, 0.99)}`, `longest ${quantile(pauses, 1)}`)
  const tooLong = estimates.filter(({ pauseMs }) => pauseMs > options.maxPause)
  if (tooLong.length > 0) {
    const names = formatShards(tooLong.map(({ shard }) => shard))
    throw new Error(`the writes of shards ${names} would have to wait for more than ${options.maxPause} ms: leave them out, or give --max-pause`)
  }
  if (options.dryRun !== true) await run(context, shards, options)
}

async function run(context: MoveContext, shards: readonly Shard[], options: Pick<MoveOptions, 'to' | 'maxPause' | 'via'>): Promise<void> {
  let bar = progress('moving', 0)
  const { to, maxPause: maxPauseMs, via } = options
  const report = await moveShards(context, { shards, to, maxPauseMs, via }, {
    begin: (count) => (bar = progress('moving', count)),
    moved({ shard, rows, pauseMs }) {
      bar.add(1)
      if (!bar.isShown) print('moved', shard, `${rows} rows`, `paused ${Math.round(pauseMs)} ms`)
    },
  })
  bar.end()
  tellOf(report)
  if (report.stayed.length + report.unfinished.length > 0) process.exitCode = NOT_ALL_DONE
  const pauses = report.moved.map(({ pauseMs }) => Math.round(pauseMs))
  print('moved', report.moved.length, `stayed ${report.stayed.length}`, `unfinished ${report.unfinished.length}`)
  if (pauses.length > 0) print('pause, ms', `p50 ${quantile(pauses, 0.5)}`, `p99 ${quantile(pauses, 0.99)}`, `longest ${quantile(pauses, 1)}`)
}

async function callOff(context: MoveContext): Promise<void> {
  const { stayed, arrived, unfinished } = await callOffMoves(context)
  tellOf({ stayed, unfinished })
  for (const shard of arrived) print('arrived', shard, 'had departed already')
  print('stayed', stayed.length, `arrived ${arrived.length}`, `unfinished ${unfinished.length}`)
  if (unfinished.length > 0) process.exitCode = NOT_ALL_DONE
}

function tellOf({ stayed, unfinished }: Pick<MoveReport, 'stayed' | 'unfinished'>): void {
  for (const { shard, reason } of stayed) print('stayed', shard, reason)
  for (const { shard, reason } of unfinished) print('unfinished', shard, reason)
  if (unfinished.length > 0) process.stderr.write('shards: something is unfinished; run `resume` when its nodes are back\n')
}

async function clean({ router }: MoveContext): Promise<void> {
  let cleaned = 0
  for (;;) {
    const { shards, rest } = await cleanShards(router)
    cleaned += shards
    if (rest === 0) break
  }
  print('cleaned', cleaned)
}

function chooseShards(router: AppRouter, list: Shard[] | undefined, { from, count }: MoveOptions): Shard[] {
  if (list !== undefined && from === undefined && count === undefined) return list
  if (list !== undefined || from === undefined || count === undefined) {
    throw new Error('say which shards to move: either a list, or --from and --count')
  }
  const there = shardsOf(router, nodeNamed(router, from).name)
  if (there.length < count) throw new Error(`there are ${there.length} shards on ${from}`)
  return there.slice(-count)
}

function nodeNamed(router: AppRouter, name: string): AppRouter['directory'] {
  const node = router.nodes.find((found) => found.name === name)
  if (node !== undefined) return node
  throw new Error(`there is no node ${name}; DATABASE_NODES lists ${router.nodes.map((found) => found.name).join(', ')}`)
}

function shardsOf(router: AppRouter, name: string): Shard[] {
  return Array.from({ length: SHARD_COUNT }, (_, shard) => shard).filter((shard) => router.nodeOf(shard).name === name)
}

/** A bar on a terminal; elsewhere nothing. */
function progress(what: string, total: number): { readonly isShown: boolean; add(count: number): void; end(): void } {
  if (!process.stderr.isTTY || total === 0) return { isShown: false, add: () => {}, end: () => {} }
  const bar = new SingleBar({ format: `${what} {bar} {value}/{total}, {eta_formatted} to go`, stream: process.stderr })
  bar.start(total, 0)
  return { isShown: true, add: (count) => bar.increment(count), end: () => bar.stop() }
}

function quantile(values: readonly number[], share: number): number {
  return values.toSorted((a, b) => a - b)[Math.max(0, Math.ceil(values.length * share) - 1)] ?? 0
}

function print(...cells: readonly (string | number | bigint)[]): void {
  process.stdout.write(`${cells.join('\t')}\n`)
}

function parseList(text: string): Shard[] {
  try {
    return parseShards(text)
  } catch (error) {
    throw new InvalidArgumentError(error instanceof Error ? error.message : String(error))
  }
}

function collectWeight(text: string, before: Map<string, number> | undefined): Map<string, number> {
  const [, node, weight] = /^([^=]+)=(\d{1,3})$/.exec(text) ?? []
  if (node === undefined || Number(weight) > WEIGHT_MAX) throw new InvalidArgumentError(`Give <node>=<0 to ${WEIGHT_MAX}>.`)
  return new Map(before).set(node, Number(weight))
}

function viaOption(): Option {
  return new Option('--via <way>', 'how rows get there: replication is for shards too big to pause, where the servers allow it')
    .choices(MOVE_VIAS)
    .default('copy' satisfies MoveVia)
}

function parseWhole(text: string): number {
  const count = Number(text)
  if (!Number.isSafeInteger(count) || count < 1) throw new InvalidArgumentError('Give a whole number from 1.')
  return count
}
