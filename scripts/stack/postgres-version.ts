import { runCommand } from './run-command.ts'
import type { Account } from './run-command.ts'

/** What a `postgres` says of itself, such as `postgres (PostgreSQL) 15.4`. */
export async function versionOf(postgres: string, account: Account | undefined): Promise<string> {
  return (await runCommand(postgres, ['--version'], { account })).trim()
}

/** Its major version. Data directories of one are of no use to another, and neither are streams. */
export async function majorOf(postgres: string, account: Account | undefined): Promise<number> {
  const version = await versionOf(postgres, account)
  const major = Number(/\) (\d+)/.exec(version)?.[1])
  if (Number.isNaN(major)) throw new Error(`${postgres} says that it is "${version}".`)
  return major
}
