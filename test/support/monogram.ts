import { randomBytes } from 'node:crypto'
import { pathToFileURL } from 'node:url'
import type { Test } from 'tap'
import { systemClock } from '#kernel/clock.ts'
import type { BlobStore } from '#platform/blob-store/blob-store.ts'
import { openBlobStore } from '#platform/blob-store/open-blob-store.ts'
import { readEnvironment } from '#platform/config/environment.ts'
import { readStorage } from '#platform/config/storage.ts'
import { createLogger } from '#platform/logger/logger.ts'
import { createTestDatabase } from './database.ts'
import { startFullStack } from './full-stack.ts'
import { inLanes } from './in-lanes.ts'
import { PROCESS_TYPES, startProcess } from './processes.ts'
import type { ProcessType, TestProcess } from './processes.ts'
import { temporaryDirectory } from './temporary-directory.ts'
import type { TestTier } from './tier.ts'

/** Connections per process: small, for many processes share the run's one server. */
const POOL_CONNECTIONS = 4
/** Processes that start at the same time: the cores are busy with those, and more only make each of them late. */
const BOOTS_AT_ONCE = 3

/** Which servers stand beside PostgreSQL: none, or all of them. */
export type Stack = 'embedded' | 'full'

export interface MonogramOptions {
  /** `embedded` when not said. */
  stack?: Stack
  /** The database servers; without them, one database of the run's server. */
  tier?: TestTier
  /** How many of each process type; 1 when not said, 0 leaves a type out. */
  counts?: Partial<Record<ProcessType, number>>
  /** Variables for every process, over the ones we set. */
  env?: Record<string, string>
}

/** A whole system of this test's own: its database servers, one blob directory, every process type. */
export interface Monogram {
  /** Base URL of each web process, without a trailing slash. */
  urls: string[]
  /** Of the directory, past any pooler. */
  databaseUrl: string
  /** Where photos are on the embedded stack; empty on the full one. */
  blobDirectory: string
  /** A look into the photo store, whichever it is. */
  blobs: BlobStore
  processes: Record<ProcessType, TestProcess[]>
  /** The environment of every process. */
  env: Readonly<Record<string, string>>
  /** Starts one more process of that type, also in place of one that was killed; `env` goes over what all have. */
  start: (type: ProcessType, env?: Record<string, string>) => Promise<TestProcess>
}

/** Starts a whole Monogram and resolves when every process is ready. All is stopped and removed at teardown. */
export async function startMonogram(t: Test, options: MonogramOptions = {}): Promise<Monogram> {
  const databaseUrl = options.tier?.nodes[0]?.primary.url ?? (await createTestDatabase(t)).url
  const blobDirectory = await temporaryDirectory(t)
  const env = {
    DATABASE_URL: databaseUrl,
    DATABASE_POOL_MAX: String(POOL_CONNECTIONS),
    STORAGE_URL: pathToFileURL(blobDirectory).href,
    SECRET_KEY: randomBytes(32).toString('hex'),
    HOST: '127.0.0.1',
    PORT: '0',
    LOG_LEVEL: 'info',
    ...options.tier?.env,
    ...(options.stack === 'full' && (await startFullStack(t))),
    ...options.env,
  }
  const processes: Monogram['processes'] = { 'web': [], 'fanout-worker': [], 'thumbnail-worker': [], 'safety-worker': [], 'id-allocator': [] }
  const start: Monogram['start'] = async (type, own = {}) => {
    const started = await startProcess(t, type, { ...env, ...own })
    processes[type].push(started)
    return started
  }
  const storage = await openBlobStore(readStorage(readEnvironment(env), env), createLogger({ process: 'test', level: 'silent' }), systemClock)
  t.teardown(() => storage.close())
  const wanted = PROCESS_TYPES.flatMap((type) => Array<ProcessType>(options.counts?.[type] ?? 1).fill(type))
  await inLanes(wanted, BOOTS_AT_ONCE, (type) => start(type))
  return {
    urls: processes.web.map((web) => `http://127.0.0.1:${web.port ?? 0}`),
    databaseUrl,
    blobDirectory,
    blobs: storage.blobs,
    processes,
    env,
    start,
  }
}
