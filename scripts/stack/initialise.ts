import { rename, rm } from 'node:fs/promises'
import type { Binaries } from './binaries.ts'
import { runCommand } from './run-command.ts'
import { writeOwned } from './server-home.ts'
import type { ServerHome } from './server-home.ts'

export interface ServerContents {
  password: string
  role: string
  databases: string[]
  /** True if the new files are to be forced to disk. */
  durable: boolean
}

/**
 * Makes the data directory of `home`: UTF-8 with PostgreSQL's own collation (the same on every machine), passwords on
 * every connection, the role and its databases. A run cut short leaves only a draft, which the next one replaces.
 */
export async function initialise(home: ServerHome, binaries: Binaries, contents: ServerContents): Promise<void> {
  const draft = `${home.data}.draft`
  await rm(draft, { recursive: true, force: true })
  const passwordFile = await writeOwned(home, 'password', `${contents.password}\n`)
  try {
    await runCommand(binaries.initdb, [...initdbArguments(draft, passwordFile), ...(contents.durable ? [] : ['--no-sync'])], { account: home.account })
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
    '--locale-provider=builtin',
    '--builtin-locale=C.UTF-8',
    '--no-instructions',
  ]
}
