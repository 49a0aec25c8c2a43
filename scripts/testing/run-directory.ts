import { chmod, mkdir, mkdtemp, readdir, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { removeEmbeddedPostgres, startEmbeddedPostgres } from '../stack/embedded-postgres.ts'
import type { PostgresServer } from '../stack/postgres-server.ts'
import { isAlive } from '../stack/postmaster.ts'

/** The database that is migrated once per run and cloned for each test file. */
export const TEMPLATE_DATABASE = 'monogram_template'

const NAME = /^monogram-test-(\d+)-/

/** What one run of the tests has for itself. */
export interface TestRun {
  directory: string
  postgres: PostgresServer
  /** Stops the server and removes everything of the run. Safe to call twice. */
  close: () => Promise<void>
}

/** Makes a directory and a PostgreSQL for one run, after removing those of runs that were killed. */
export async function openTestRun(checkout: string): Promise<TestRun> {
  await removeDeadRuns(checkout)
  const directory = await mkdtemp(join(tmpdir(), `monogram-test-${process.pid}-`))
  // PostgreSQL may have to run as another user, who must be able to enter; it cannot list.
  await chmod(directory, 0o711)
  const postgres = await startEmbeddedPostgres({ checkout, directory, databases: [TEMPLATE_DATABASE], durable: false })
  const close = async (): Promise<void> => {
    await removeEmbeddedPostgres(checkout, directory)
    await rm(directory, { recursive: true, force: true })
  }
  await mkdir(join(directory, 'files'), { recursive: true })
  return { directory, postgres, close }
}

async function removeDeadRuns(checkout: string): Promise<void> {
  for (const name of await readdir(tmpdir())) {
    const pid = Number(NAME.exec(name)?.[1])
    const directory = join(tmpdir(), name)
    if (Number.isNaN(pid) || isAlive(pid) || (await stat(directory)).uid !== process.getuid?.()) continue
    await removeEmbeddedPostgres(checkout, directory).catch(() => undefined)
    await rm(directory, { recursive: true, force: true })
  }
}
