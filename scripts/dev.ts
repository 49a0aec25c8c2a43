import { mkdir, rm } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { databaseTier, oneDatabase } from './stack/databases.ts'
import type { Databases } from './stack/databases.ts'
import { keepEnvironment, recallSecretKey } from './stack/dev-environment.ts'
import type { DevEnvironment } from './stack/dev-environment.ts'
import { demoLines, SEED_COMMAND } from './stack/demo.ts'
import { readDevOptions } from './stack/dev-options.ts'
import { endLeftoverServers, ensureFullServers, objects, startFullServers } from './stack/full-servers.ts'
import type { FullServers } from './stack/full-servers.ts'
import { claimPort, freePort, isPortFree, LOOPBACK } from './stack/free-port.ts'
import { claimRun, forgetRun, recordRun } from './stack/leftovers.ts'
import { readProcfile } from './stack/procfile.ts'
import { runLine } from './stack/run-line.ts'
import { supervise } from './stack/supervise.ts'
import type { ProcessSpec } from './stack/supervise.ts'
import { waitReady } from './stack/wait-ready.ts'

/** What processes may take to drain: a host gives them 30 s, they promise 25. */
const DRAIN_DEADLINE_MS = 25_000
/** The process type that listens on PORT, as on a host. */
const WEB = 'web'

const checkout = resolve(import.meta.dirname, '..')
const procfile = await readProcfile(join(checkout, 'Procfile'))
const options = readDevOptions(process.argv, [...procfile.processes.keys()])

const plainDirectory = join(checkout, '.monogram')
const fullDirectory = join(plainDirectory, 'full')
const directory = options.full ? fullDirectory : plainDirectory
const stacks = [oneDatabase(checkout, plainDirectory), databaseTier(checkout, fullDirectory)] as const
const [databaseStack, otherDatabaseStack] = options.full ? [stacks[1], stacks[0]] : stacks
/** One for both stacks: a checkout runs one at a time, and either ends what the other left. */
const runFile = join(plainDirectory, 'run.json')
const environmentFile = join(directory, 'env')
const blobs = options.full ? objects(directory) : join(directory, 'blobs')

/** What was started, to be stopped in the opposite order. */
const started = new AsyncDisposableStack()
const abort = new AbortController()
let leaving: Promise<never> | undefined

/** Stops everything and exits; also in the middle of the start, which is left to come to its next step first. */
function leave(code: number, reason?: string): Promise<never> {
  return (leaving ??= (async () => {
    if (reason !== undefined) console.log(reason)
    abort.abort(new Error('told to stop'))
    await booted.catch(() => undefined)
    await started.disposeAsync().catch((error: unknown) => {
      code = 1
      console.error(error)
    })
    process.exit(code)
  })())
}

async function removeData(): Promise<void> {
  console.log(`Removing all data of this checkout (${directory}${options.full ? '' : ', not that of --full'}) …`)
  await databaseStack.remove()
  for (const left of options.full ? [directory] : [blobs, environmentFile]) await rm(left, { recursive: true, force: true })
  await mkdir(directory, { recursive: true })
}

/** PostgreSQL of this stack may go on: it is used as it is. */
async function endLeftovers(): Promise<void> {
  await endLeftoverServers(fullDirectory)
  await otherDatabaseStack.endLeftovers()
}

async function assertPortsFree(): Promise<void> {
  for (let port = options.port; port < options.port + (options.counts.get(WEB) ?? 0); port++) {
    if (!(await isPortFree(port))) {
      throw new Error(`Port ${port} is taken by another program. Choose another one with --port, for example --port ${await freePort()}.`)
    }
    // By us, or already by whoever chose it: no server that starts before the web process may take it.
    await claimPort(port)
  }
}

async function processSpecs(environment: DevEnvironment): Promise<ProcessSpec[]> {
  // The demonstration's progress bars are to be seen; whoever asks for a level gets it.
  const quiet = options.demo && process.env.LOG_LEVEL === undefined ? { LOG_LEVEL: 'warn' } : {}
  const specs: ProcessSpec[] = []
  for (const [type, command] of procfile.processes) {
    for (let number = 1; number <= (options.counts.get(type) ?? 0); number++) {
      const port = type === WEB ? { PORT: String(options.port + number - 1) } : {}
      const env = { ...quiet, ...environment, ...port, METRICS_PORT: String(await freePort()) }
      specs.push({ name: `${type}.${number}`, command, env })
    }
  }
  return specs
}

function startProcesses(specs: ProcessSpec[]): number[] {
  const supervised = supervise(specs)
  started.defer(async () => {
    console.log(`Stopping: every process may finish what it does (up to ${DRAIN_DEADLINE_MS / 1000} s) …`)
    const late = await supervised.stop(DRAIN_DEADLINE_MS)
    if (late.length > 0) console.log(`Killed, as they did not leave in time: ${late.join(', ')}`)
  })
  void supervised.firstEnd.then(({ name, exitCode }) => {
    if (leaving === undefined) return leave(1, `${name} ended by itself (exit code ${exitCode}): stopping the others.`)
  })
  return supervised.pids
}

async function boot(): Promise<void> {
  await mkdir(directory, { recursive: true })
  const wasKilled = await claimRun(runFile)
  started.defer(() => forgetRun(runFile))
  if (wasKilled) await endLeftovers()
  await assertPortsFree()
  if (options.full) await ensureFullServers()
  if (options.fresh) await removeData()
  abort.signal.throwIfAborted()

  const databases = await databaseStack.start(started)
  const environment: DevEnvironment = {
    SECRET_KEY: await recallSecretKey(environmentFile),
    ...databases.environment,
    STORAGE_URL: pathToFileURL(blobs).href,
    HOST: LOOPBACK,
    PORT: String(options.port),
  }
  const full = options.full ? await startFullServers(directory, started) : undefined
  Object.assign(environment, full?.environment)
  await mkdir(blobs, { recursive: true })
  await keepEnvironment(environmentFile, environment)
  abort.signal.throwIfAborted()

  if (procfile.release !== undefined) {
    console.log(`Release: ${procfile.release}`)
    await runLine(procfile.release, { ...process.env, ...environment }, abort.signal)
  }
  const specs = await processSpecs(environment)
  const pids = startProcesses(specs)
  await recordRun(runFile, specs.map(({ command }, index) => ({ pid: pids[index] ?? 0, command })))
  await announce(environment, databases, full)
}

async function announce(environment: DevEnvironment, databases: Databases, full: FullServers | undefined): Promise<void> {
  const urls = Array.from({ length: options.counts.get(WEB) ?? 0 }, (_, index) => `http://${LOOPBACK}:${options.port + index}`)
  await Promise.all(urls.map((url) => waitReady(url, abort.signal)))
  const [url] = urls
  if (url === undefined) return
  console.log(`Monogram is ready at ${url}`)
  console.log(`  API reference  ${url}/docs`)
  for (const more of urls.slice(1)) console.log(`  also at        ${more}`)
  for (const { name, address } of [...databases.addresses, ...(full?.addresses ?? [])]) console.log(`  ${name.padEnd(14)} ${address}`)
  console.log(`  Data           ${[blobs, ...databases.directories].join(', ')} (start anew with --fresh)`)
  console.log(`  Scripts        set -a; . ${environmentFile}; set +a   then: node scripts/…`)
  console.log('  Stop           Ctrl-C')
  if (options.demo) await showDemo(url, environment)
}

async function showDemo(url: string, environment: DevEnvironment): Promise<void> {
  console.log(`Demo: ${SEED_COMMAND}`)
  await runLine(SEED_COMMAND, { ...process.env, ...environment }, abort.signal)
  for (const line of await demoLines(url)) console.log(line)
}

// A terminal that goes away must not take us with it before everything is stopped.
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined)
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => void leave(0))

const booted = boot()
booted.catch((error: unknown) => {
  if (leaving === undefined) void leave(1, error instanceof Error ? error.message : String(error))
})
