import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { chown, readFile, rename, stat, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { parseEnv } from 'node:util'
import type { DatabaseEnvironment } from './databases.ts'
import type { LeverEnvironment } from './full-servers.ts'

/** The variables that every process of the stack shares; those of levers only where they are on. */
export type DevEnvironment = Record<'SECRET_KEY' | 'STORAGE_URL' | 'HOST' | 'PORT', string> &
  DatabaseEnvironment &
  Partial<LeverEnvironment>

/** The secret key kept in `file` by an earlier start, else a new one. Throws when another user keeps it from us. */
export async function recallSecretKey(file: string): Promise<string> {
  const kept = existsSync(file) ? parseEnv(await readFile(file, 'utf8'))['SECRET_KEY'] : undefined
  return kept ?? randomBytes(32).toString('hex')
}

/** Keeps the environment in `file`, readable by its owner only, in a form that a shell and `node --env-file` read. */
export async function keepEnvironment(file: string, environment: DevEnvironment): Promise<void> {
  const draft = `${file}.${process.pid}`
  const lines = Object.entries(environment).map(([name, value]) => `${name}='${value}'\n`)
  await writeFile(draft, lines.join(''), { mode: 0o600 })
  // Root leaves it to whoever the directory belongs to, so that they can still read it.
  const { uid, gid } = await stat(dirname(file))
  if (process.getuid?.() === 0) await chown(draft, uid, gid)
  await rename(draft, file)
}
