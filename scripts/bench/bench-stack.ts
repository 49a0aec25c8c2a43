import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { pathToFileURL } from 'node:url'
import type { Id } from '#kernel/snowflake.ts'
import { removeEmbeddedPostgres, startEmbeddedPostgres } from '../stack/embedded-postgres.ts'
import { freePort, LOOPBACK } from '../stack/free-port.ts'
import { startMemcached } from '../stack/memcached.ts'

const READY_POLL_MS = 50
/** USER_HZ, the same on every Linux that Node runs on. */
const TICKS_PER_SECOND = 100
const PASSWORD = 'correct horse battery staple'

/** A server that is measured. */
export interface BenchServer {
  readonly base: string
  /** Seconds of processor time that it has used, all its threads together; NaN where there is no /proc. */
  readonly cpuSeconds: () => number
}

/** PostgreSQL and memcached of a benchmark's own, and the means to start processes on them. */
export interface BenchStack extends AsyncDisposable {
  readonly directory: string
  /** `host:port` of the memcached. */
  readonly memcached: string
  /** The environment of our processes, with the cache on. */
  readonly env: Record<string, string>
  /** Starts a script as a server on a port, which it gets as PORT too; gives it once it answers. */
  serve(argsFor: (port: string) => readonly string[], extra?: Record<string, string>): Promise<BenchServer>
  close(work: () => Promise<void>): void
}

/** Somebody who signed up. */
export interface BenchPerson {
  readonly id: Id
  readonly token: string
}

/** Starts everything, migrated; all is gone when it is disposed of. */
export async function openBenchStack(name: string): Promise<BenchStack> {
  const checkout = resolve(import.meta.dirname, '../..')
  const directory = join(checkout, '.monogram', `bench-${name}`)
  await using opening = new AsyncDisposableStack()
  await removeEmbeddedPostgres(checkout, directory)
  const postgres = await startEmbeddedPostgres({ checkout, directory, databases: ['bench'], durable: true })
  opening.defer(() => rm(directory, { recursive: true, force: true }))
  opening.defer(() => removeEmbeddedPostgres(checkout, directory))
  const memcached = await startMemcached()
  opening.defer(() => memcached.stop())

  const env = {
    PATH: process.env['PATH'] ?? '',
    DATABASE_URL: postgres.url('bench'),
    MEMCACHE_SERVERS: memcached.address,
    CACHE_ATTACH_SECONDS: '0',
    STORAGE_URL: pathToFileURL(join(directory, 'blobs')).href,
    SECRET_KEY: 'a key for benchmarks, of no worth at all',
    HOST: LOOPBACK,
  }
  /** Its log goes nowhere, at the price of writing it. */
  const start = (args: readonly string[], extra: Record<string, string>): ChildProcess =>
    spawn(process.execPath, [...args], { cwd: checkout, env: { ...env, ...extra }, stdio: ['ignore', 'ignore', 'inherit'] })

  const [migrated] = (await once(start(['scripts/migrate.ts'], {}), 'exit')) as [number]
  if (migrated !== 0) throw new Error(`the migration ended with ${migrated}`)
  const opened = opening.move()
  return {
    directory,
    memcached: memcached.address,
    env,
    async serve(argsFor, extra = {}) {
      const port = String(await freePort())
      const args = argsFor(port)
      const child = start(args, { ...extra, PORT: port })
      opened.defer(async () => {
        if (child.exitCode !== null) return
        child.kill('SIGTERM')
        await once(child, 'exit')
      })
      const base = `http://${LOOPBACK}:${port}`
      while ((await fetch(`${base}/healthz`).catch(() => undefined))?.ok !== true) {
        if (child.exitCode !== null) throw new Error(`${args.join(' ')} ended with ${child.exitCode}`)
        await sleep(READY_POLL_MS)
      }
      return { base, cpuSeconds: () => cpuSecondsOf(child.pid ?? 0) }
    },
    close: (work) => opened.defer(work),
    [Symbol.asyncDispose]: () => opened.disposeAsync(),
  }
}

/** Fields 14 and 15 of /proc/<pid>/stat (proc(5)); the second, the name, may have spaces, so counting begins after it. */
function cpuSecondsOf(pid: number): number {
  try {
    const [, rest = ''] = readFileSync(`/proc/${pid}/stat`, 'utf8').split(/\) /)
    const [user, system] = rest.split(' ').slice(11, 13).map(Number)
    return ((user ?? NaN) + (system ?? NaN)) / TICKS_PER_SECOND
  } catch {
    return NaN
  }
}

/** Signs somebody up. */
export async function signUp(base: string, username: string): Promise<BenchPerson> {
  const answer = await fetch(`${base}/v1/accounts`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ username, password: PASSWORD }),
  })
  if (answer.status !== 201) throw new Error(`signing ${username} up gave ${answer.status}`)
  const { account, token } = (await answer.json()) as { account: { id: string }; token: string }
  return { id: BigInt(account.id) as Id, token }
}
