import { rename, rm } from 'node:fs/promises'
import type { Binaries } from './binaries.ts'
import { majorOf } from './postgres-version.ts'
import { runCommand } from './run-command.ts'
import { writeOwned } from './server-home.ts'
import type { ServerHome } from './server-home.ts'

export interface ServerContents {
  password: string
  role: string
  databases: readonly string[]
  /** True if the new files are to be forced to disk. */
  durable: boolean
}

/** The first with a collation provider of its own. */
const BUILTIN_LOCALE_MAJOR = 17

/**
 * Makes the data directory of `home`: UTF-8 in the order of code points, passwords on
 * every connection, the role and its databases. A run cut short leaves only a draft, which the next one replaces.
 */
export async function initialise(home: ServerHome, binaries: Binaries, contents: ServerContents): Promise<void> {
  const draft = `${home.data}.draft`
  await rm(draft, { recursive: true, force: true })
  const passwordFile = await writeOwned(home, 'password', `${contents.password}\n`)
  try {
    const locale = localeArguments(await majorOf(binaries.postgres, home.account))
    const args = [...initdbArguments(draft, passwordFile), ...locale, ...(contents.durable ? [] : ['--no-sync'])]
    await runCommand(binaries.initdb, args, { account: home.account })
  } finally {
    await rm(passwordFile, { force: true })
  }
  // Single-user mode runs SQL, one statement a line, with no client and before anybody can connect.
  const single = ['--single', '-D', draft, '-c', `fsync=${contents.durable ? 'on' : 'off'}`, 'postgres']
  const statements = [
    `CREATE ROLE ${contents.role} LOGIN CREATEDB PASSWORD '${contents.password}'`,
    ...contents.databases.map((name) => `CREATE DATABASE ${name} OWNER ${contents.role}`),
  ]
  await runCommand(binaries.postgres, single, { account: home.account, input: statements.join('\n') + '\n' })
  await rename(draft, home.data)
}

function initdbArguments(data: string, passwordFile: string): string[] {
  return [
    '-D', data,
    '--username=postgres',
    `--pwfile=${passwordFile}`,
    '--auth=scram-sha-256',
    '--encoding=UTF8',
    '--locale=C',
    '--no-instructions',
  ]
}

/** Order by code points everywhere. What upper and lower case are is the same on every machine only since 17. */
function localeArguments(major: number): string[] {
  if (major >= BUILTIN_LOCALE_MAJOR) return ['--locale-provider=builtin', '--builtin-locale=C.UTF-8']
  return [process.platform === 'darwin' ? '--lc-ctype=UTF-8' : '--lc-ctype=C.UTF-8']
}
