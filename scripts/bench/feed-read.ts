import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { pathToFileURL } from 'node:url'
import autocannon from 'autocannon'
import type { Id } from '#kernel/snowflake.ts'
import { openContext } from '#domain/context.ts'
import { readFeed } from '#domain/feed/feed.reader.ts'
import { removeEmbeddedPostgres, startEmbeddedPostgres } from '../stack/embedded-postgres.ts'
import { freePort } from '../stack/free-port.ts'
import { fillFeed } from './filled-feed.ts'
import { compareRounds, printRates } from './rounds.ts'

/**
 * The first page of a feed of 1,000 entries by 50 authors, with authentication and a log line a request, everything
 * from PostgreSQL. The ceiling is the very same answer as bytes made ahead, from a bare server. Both are processes
 * of their own, one core each at most; the load comes from here.
 */
const AUTHORS = 50
const PHOTOS_EACH = 20
/** For the ceiling, what a server needs to show all it has; for ours, what keeps every pooled connection busy. */
const CEILING_LOAD = { connections: 100, pipelining: 10 }
const OUR_LOAD = { connections: 32, pipelining: 1 }
const RUN_SECONDS = 4
const ROUNDS = 3
const READERS = 16
const POOL_CONNECTIONS = 10
const READY_POLL_MS = 50
const PASSWORD = 'correct horse battery staple'

const checkout = resolve(import.meta.dirname, '../..')
const directory = join(checkout, '.monogram', 'bench-feed-read')
await removeEmbeddedPostgres(checkout, directory)
const postgres = await startEmbeddedPostgres({ checkout, directory, databases: ['feed'], durable: true })
await using closing = new AsyncDisposableStack()
closing.defer(() => rm(directory, { recursive: true, force: true }))
closing.defer(() => removeEmbeddedPostgres(checkout, directory))

const env = {
  PATH: process.env['PATH'],
  DATABASE_URL: postgres.url('feed'),
  DATABASE_POOL_MAX: String(POOL_CONNECTIONS),
  STORAGE_URL: pathToFileURL(join(directory, 'blobs')).href,
  SECRET_KEY: 'a key for benchmarks, of no worth at all',
  HOST: '127.0.0.1',
}

/** Starts one of our scripts; its log goes nowhere, at the price of writing it. */
function start(args: readonly string[], extra: Record<string, string> = {}): ChildProcess {
  return spawn(process.execPath, [...args], {
    cwd: checkout,
    env: { ...env, ...extra },
    stdio: ['ignore', 'ignore', 'inherit'],
  })
}

async function serve(args: readonly string[], port: number): Promise<string> {
  const child = start(args, { PORT: String(port) })
  closing.defer(async () => {
    if (child.exitCode !== null) return
    child.kill('SIGTERM')
    await once(child, 'exit')
  })
  const base = `http://127.0.0.1:${port}`
  while ((await fetch(`${base}/healthz`).catch(() => undefined))?.ok !== true) {
    if (child.exitCode !== null) throw new Error(`${args.join(' ')} ended with ${child.exitCode}`)
    await sleep(READY_POLL_MS)
  }
  return base
}

async function load(base: string, path: string, token: string, width: typeof OUR_LOAD): Promise<number> {
  const result = await autocannon({
    url: `${base}${path}`,
    ...width,
    duration: RUN_SECONDS,
    headers: { authorization: `Bearer ${token}` },
  })
  if (result.non2xx > 0 || result.errors > 0) throw new Error(`${result.non2xx} answers not 2xx, ${result.errors} errors`)
  return result.requests.total / result.duration
}

/** Pages a second without HTTP: the data layer alone. */
async function readers(page: () => Promise<unknown>): Promise<number> {
  const startMs = performance.now()
  let pages = 0
  const reader = async (): Promise<void> => {
    for (; performance.now() - startMs < RUN_SECONDS * 1_000; pages++) await page()
  }
  await Promise.all(Array.from({ length: READERS }, reader))
  return (pages / (performance.now() - startMs)) * 1_000
}

const [migrated] = (await once(start(['scripts/migrate.ts']), 'exit')) as [number]
if (migrated !== 0) throw new Error(`the migration ended with ${migrated}`)
const web = await serve(['services/web/main.ts'], await freePort())

const answer = await fetch(`${web}/v1/accounts`, {
  method: 'POST',
  headers: { 'content-type': 'application/json' },
  body: JSON.stringify({ username: 'reader', password: PASSWORD }),
})
const { account, token } = (await answer.json()) as { account: { id: string }; token: string }
const viewerId = BigInt(account.id) as Id

const context = await openContext('bench', { ...env, LOG_LEVEL: 'warn' })
closing.defer(() => context.close())
await fillFeed(context.router, viewerId, { authors: AUTHORS, photosEach: PHOTOS_EACH, nowMs: Date.now() })

for (const limit of [20, 30]) {
  const path = `/v1/feed?limit=${limit}`
  const page = await fetch(`${web}${path}`, { headers: { authorization: `Bearer ${token}` } })
  const bytes = Buffer.from(await page.arrayBuffer())
  const { items } = JSON.parse(bytes.toString()) as { items: unknown[] }
  if (items.length !== limit) throw new Error(`the page has ${items.length} photos`)
  await mkdir(directory, { recursive: true })
  const file = join(directory, `page-${limit}.json`)
  await writeFile(file, bytes)
  const barePort = await freePort()
  const bare = await serve(['scripts/bench/prebuilt-page.ts', String(barePort), file], barePort)
  const rates = await compareRounds(
    {
      'the same page as bytes made ahead (ceiling)': () => load(bare, path, token, CEILING_LOAD),
      'GET /v1/feed, all from PostgreSQL': () => load(web, path, token, OUR_LOAD),
      'readFeed alone, 16 at once': () => readers(() => readFeed(context, viewerId, { before: null, limit })),
    },
    { rounds: ROUNDS },
  )
  printRates(`pages of ${limit}/s (${Math.round(bytes.length / 1_000)} kB)`, rates)
}
