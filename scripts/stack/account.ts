import { stat } from 'node:fs/promises'
import { runCommand } from './run-command.ts'
import type { Account } from './run-command.ts'

/** Users that a root shell may lend to PostgreSQL, best first. */
const UNPRIVILEGED_USERS = ['postgres', 'nobody']

/**
 * The user to run PostgreSQL as: it refuses to run as root. Nothing (ourselves) unless we are root; else the user who
 * already owns `data` (a checkout first used without root stays usable), else the first of `postgres` and `nobody`.
 * Throws when the system has neither.
 */
export async function serverAccount(data: string): Promise<Account | undefined> {
  if (process.getuid?.() !== 0) return undefined
  const owner = await stat(data).catch(() => undefined)
  if (owner !== undefined && owner.uid !== 0) return { uid: owner.uid, gid: owner.gid }
  for (const name of UNPRIVILEGED_USERS) {
    const uid = await idOf('-u', name)
    const gid = await idOf('-g', name)
    if (uid !== undefined && gid !== undefined) return { uid, gid }
  }
  throw new Error(`PostgreSQL cannot run as root, and there is no user ${UNPRIVILEGED_USERS.join(' or ')} to run it as.`)
}

/** True if `account` (ourselves when undefined) may read, write and enter `directory`, all its parents included. */
export async function mayUse(directory: string, account: Account | undefined): Promise<boolean> {
  return passes(account, `test -r "$0" && test -w "$0" && test -x "$0"`, directory)
}

/** True if `account` (ourselves when undefined) may run the program at `file`. */
export async function mayRun(file: string, account: Account | undefined): Promise<boolean> {
  return passes(account, `"$0" --version`, file)
}

async function passes(account: Account | undefined, script: string, argument: string): Promise<boolean> {
  return runCommand('/bin/sh', ['-c', script, argument], { account }).then(() => true, () => false)
}

async function idOf(flag: '-u' | '-g', name: string): Promise<number | undefined> {
  const text = await runCommand('id', [flag, name], {}).catch(() => '')
  return /^\d+\s*$/.test(text) ? Number(text) : undefined
}
