import { resolve } from 'node:path'
import { Command } from 'commander'
import { buildTap } from './testing/build-tap.ts'
import type { GroupChild } from './testing/child.ts'
import { migrateTemplate } from './testing/migrate-template.ts'
import { openTestRun, TEMPLATE_DATABASE } from './testing/run-directory.ts'
import type { TestRun } from './testing/run-directory.ts'
import { runStage } from './testing/run-stage.ts'
import { runStaticChecks } from './testing/static-checks.ts'
import { sum } from './testing/tally.ts'
import type { Tally } from './testing/tally.ts'
import { filesOf, STAGES, stageOf } from './testing/test-files.ts'
import type { Stage } from './testing/test-files.ts'

const HELP = `
Without arguments: types, lint, boundaries, then every test, on a private PostgreSQL that is removed at the end.
With stages or files: only those tests, with the same database.`

const command = new Command('scripts/test').description(HELP.trim()).argument('[files...]', 'test files to run')
for (const stage of STAGES) command.option(`--${stage}`, `run the ${stage} tests`)
command.option('--checks', 'run types, lint and boundaries').parse()

const chosen = command.opts<Partial<Record<Stage | 'checks', boolean>>>()
const files = command.args
const everything = files.length === 0 && Object.keys(chosen).length === 0
const checkout = resolve(import.meta.dirname, '..')

const children = new Set<GroupChild>()
let run: TestRun | undefined
let stopping: Promise<void> | undefined

/** Stops what runs, removes the database: at the end, and on a signal. */
function close(): Promise<void> {
  return (stopping ??= (async () => {
    await Promise.all([...children].map((child) => child.stop()))
    await run?.close()
  })())
}

function onStart(child: GroupChild): void {
  children.add(child)
  void child.ended.finally(() => children.delete(child))
}

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => {
    console.log(`\nStopping (${signal}) …`)
    void close().finally(() => process.exit(1))
  })
}

function chosenFiles(stage: Stage): string[] {
  if (everything || chosen[stage] === true) return filesOf(stage)
  return files.filter((file) => stageOf(file) === stage)
}

async function runTests(): Promise<Tally[]> {
  const stages = STAGES.map((stage) => ({ stage, files: chosenFiles(stage) })).filter((batch) => batch.files.length > 0)
  if (stages.length === 0) return []
  console.log('\ndatabase')
  run = await openTestRun(checkout)
  const url = run.postgres.url(TEMPLATE_DATABASE)
  await migrateTemplate(url, onStart)
  console.log('  ok   started and migrated')
  const env = { ...process.env, MONOGRAM_TEST_DATABASE_URL: url, MONOGRAM_TEST_DIRECTORY: `${run.directory}/files` }
  const tallies: Tally[] = []
  for (const batch of stages) {
    if (stopping !== undefined) break
    tallies.push(await runStage(batch.stage, batch.files, env, onStart))
  }
  return tallies
}

async function main(): Promise<Tally> {
  await buildTap(onStart)
  const tallies: Tally[] = []
  if (everything || chosen.checks === true) {
    console.log('checks')
    tallies.push(await runStaticChecks(onStart))
  }
  const tests = await runTests()
  if (chosen.checks !== true && sum(tests).passed + sum(tests).failed === 0) {
    console.log('No test ran.')
    tests.push({ passed: 0, failed: 1, skipped: 0 })
  }
  return sum([...tallies, ...tests])
}

let total: Tally
try {
  total = await main()
} catch (error) {
  console.log(error instanceof Error ? error.message : error)
  total = { passed: 0, failed: 1, skipped: 0 }
}
await close()
console.log(`\n${total.passed} passed, ${total.failed} failed`)
process.exitCode = total.failed === 0 ? 0 : 1
