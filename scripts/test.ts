import { resolve } from 'node:path'
import { Command } from 'commander'
import { buildTap } from './testing/build-tap.ts'
import type { GroupChild } from './testing/child.ts'
import { migrateTemplate } from './testing/migrate-template.ts'
import { openTestRun, TEMPLATE_DATABASE } from './testing/run-directory.ts'
import type { TestRun } from './testing/run-directory.ts'
import { runFiles } from './testing/run-files.ts'
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

async function runTests(): Promise<Tally> {
  const chosenTests = STAGES.flatMap(chosenFiles)
  if (chosenTests.length === 0) return sum([])
  console.log('\ndatabase')
  run = await openTestRun(checkout)
  const url = run.postgres.url(TEMPLATE_DATABASE)
  await migrateTemplate(url, onStart)
  console.log('  ok   started and migrated')
  const env = {
    ...process.env,
    MONOGRAM_TEST_DATABASE_URL: url,
    MONOGRAM_TEST_DIRECTORY: `${run.directory}/files`,
    // The same modules are loaded hundreds of times: half of what that costs is compiling them.
    NODE_COMPILE_CACHE: `${run.directory}/compiled`,
  }
  console.log(`\ntests (${chosenTests.length} files)`)
  return runFiles(chosenTests, { env, onStart, isStopping: () => stopping !== undefined })
}

async function main(): Promise<Tally> {
  await buildTap(onStart)
  const tallies: Tally[] = []
  if (everything || chosen.checks === true) {
    console.log('checks')
    tallies.push(await runStaticChecks(onStart))
  }
  const tests = await runTests()
  tallies.push(tests)
  if (chosen.checks !== true && tests.passed + tests.failed === 0) {
    console.log('No test ran.')
    tallies.push({ passed: 0, failed: 1, skipped: 0 })
  }
  return sum(tallies)
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
