import { Command, InvalidArgumentError, Option } from 'commander'
import type { QueryExecutorProvider } from 'kysely'
import { loadLogLevel, loadNodes } from '#platform/config/config.ts'
import { createLogger } from '#platform/logger/logger.ts'
import { discardDeadLetters, listDeadLetters, replayDeadLetters } from '#platform/outbox/dead-letters.ts'
import type { DeadLetter, DeadLetterFilter } from '#platform/outbox/dead-letters.ts'
import { openPool } from '#platform/postgres/pool.ts'

/** `<node>:<id>`, as `list` prints it: a letter's id is unique on its node only. */
interface Reference {
  readonly node: string
  readonly id: bigint
}

interface Filters {
  readonly queue?: string
  readonly cause?: string
  readonly before?: Date
  readonly limit: number
}

interface Node {
  readonly name: string
  readonly db: QueryExecutorProvider
}

const LIST_LETTERS = 50
const CHANGE_LETTERS = 1_000
const DETAIL_CHARACTERS_MAX = 120

const program = new Command('dead-letters')
  .description('Shows the messages that were given up on, sends them again, or throws them away.')
  .addHelpText(
    'after',
    `
A letter is named <node>:<id>, as the list shows it. Typical use, once the fault is mended:

  node scripts/dead-letters.ts list --queue thumbnail
  node scripts/dead-letters.ts replay --queue thumbnail --cause deadline

Reads DATABASE_URL, or the variables that DATABASE_NODES lists.`,
  )

withFilters(program.command('list'), LIST_LETTERS)
  .description('lists dead letters, node by node, newest first: name, time, queue, event, cause, attempts, detail')
  .option('--after <letter>', 'the page that follows this letter', parseReference)
  .option('--json', 'one JSON object a line, with the body')
  .action(list)

for (const [name, verb, change] of [
  ['replay', 'moves dead letters back to their queues, oldest first, with all attempts anew', replayDeadLetters],
  ['discard', 'deletes dead letters for good, oldest first', discardDeadLetters],
] as const) {
  withFilters(program.command(name).argument('[letters...]', 'letters to take', collect), CHANGE_LETTERS)
    .description(verb)
    .option('--all', 'without a letter or a filter: take any')
    .action((letters: Reference[] | undefined, filters: Filters & { all?: boolean }) => alter(letters ?? [], filters, name, change))
}

// `list | head` stops reading early, which is no error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error
  process.exit()
})

program.parseAsync().catch((error: unknown) => {
  process.stderr.write(`dead-letters: ${error instanceof Error ? error.message : String(error)}\n`)
  process.exitCode = 1
})

function withFilters(command: Command, limit: number): Command {
  return command
    .option('--queue <name>', 'only of this queue')
    .option('--cause <word>', 'only with this cause, such as deadline, invalid_body or an error’s code')
    .option('--before <time>', 'only what failed before this time (ISO 8601)', parseTime)
    .addOption(new Option('--limit <count>', 'at most so many').argParser(parseCount).default(limit))
}

async function list(options: Filters & { after?: Reference; json?: boolean }): Promise<void> {
  await onNodes(async (nodes) => {
    const { after, limit } = options
    const from = after === undefined ? 0 : indexOf(nodes, after.node)
    let room = limit
    for (const node of nodes.slice(from)) {
      if (room === 0) break
      const page = after?.node === node.name ? { limit: room, below: after.id } : { limit: room }
      const letters = await listDeadLetters(node.db, filterOf(options), page)
      for (const letter of letters) process.stdout.write(`${options.json === true ? asJson(node, letter) : asLine(node, letter)}\n`)
      room -= letters.length
    }
  })
}

async function alter(
  letters: readonly Reference[],
  filters: Filters & { all?: boolean },
  name: 'replay' | 'discard',
  change: typeof replayDeadLetters,
): Promise<void> {
  const filter = filterOf(filters)
  if (letters.length === 0 && Object.keys(filter).length === 0 && filters.all !== true) {
    throw new Error(`say which letters to ${name}: by name, --queue, --cause, --before, or --all`)
  }
  await onNodes(async (nodes) => {
    for (const { node } of letters) indexOf(nodes, node)
    let room = filters.limit
    for (const node of nodes) {
      const ids = letters.filter((letter) => letter.node === node.name).map(({ id }) => id)
      if (room === 0 || (letters.length > 0 && ids.length === 0)) continue
      room -= await change(node.db, letters.length > 0 ? { ...filter, ids } : filter, room)
    }
    process.stdout.write(`${name}ed ${filters.limit - room}\n`)
  })
}

async function onNodes(work: (nodes: Node[]) => Promise<void>): Promise<void> {
  const log = createLogger({ process: 'dead-letters', level: loadLogLevel(process.env) })
  const pools = loadNodes(process.env).map(({ name, url }) => ({
    name,
    db: openPool<unknown>({ url, max: 1, applicationName: 'monogram dead-letters', preparedStatements: false }, log),
  }))
  try {
    await work(pools)
  } finally {
    await Promise.all(pools.map(({ db }) => db.destroy()))
  }
}

function filterOf({ queue, cause, before }: Filters): DeadLetterFilter {
  return { ...(queue !== undefined && { queue }), ...(cause !== undefined && { cause }), ...(before && { before }) }
}

function indexOf(nodes: readonly Node[], name: string): number {
  const index = nodes.findIndex((node) => node.name === name)
  if (index === -1) throw new Error(`there is no node ${name}; there are ${nodes.map((node) => node.name).join(', ')}`)
  return index
}

function asLine(node: Node, letter: DeadLetter): string {
  const detail = letter.detail.replaceAll(/\s+/g, ' ').slice(0, DETAIL_CHARACTERS_MAX)
  const { queue, event, cause, attempts, failedAt } = letter
  return [`${node.name}:${letter.id}`, failedAt.toISOString(), queue, event, cause, attempts, detail].join('\t')
}

function asJson(node: Node, letter: DeadLetter): string {
  return JSON.stringify({ ...letter, id: `${node.name}:${letter.id}` })
}

function collect(text: string, before: Reference[] | undefined): Reference[] {
  return [...(before ?? []), parseReference(text)]
}

function parseReference(text: string): Reference {
  const [, node, id] = /^([^:]+):(\d{1,18})$/.exec(text) ?? []
  if (node === undefined || id === undefined) throw new InvalidArgumentError('A letter is named <node>:<id>.')
  return { node, id: BigInt(id) }
}

function parseTime(text: string): Date {
  const time = new Date(text)
  if (Number.isNaN(time.getTime())) throw new InvalidArgumentError('Give a time such as 2026-05-01T12:00:00Z.')
  return time
}

function parseCount(text: string): number {
  const count = Number(text)
  if (!Number.isSafeInteger(count) || count < 1) throw new InvalidArgumentError('Give a whole number from 1.')
  return count
}
