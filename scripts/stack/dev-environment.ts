import { randomBytes } from 'node:crypto'
import { readFile, rename, writeFile } from 'node:fs/promises'
import { parseEnv } from 'node:util'

/** The variables that every process of the stack shares. */
export type DevEnvironment = Record<'SECRET_KEY' | 'DATABASE_URL' | 'STORAGE_URL' | 'HOST' | 'PORT', string>

/** The secret key kept in `file` by an earlier start, else a new one. */
export async function recallSecretKey(file: string): Promise<string> {
  const kept = parseEnv(await readFile(file, 'utf8').catch(() => ''))['SECRET_KEY']
  return kept ?? randomBytes(32).toString('hex')
}

/** Keeps the environment in `file`, readable by its owner only, in a form that a shell and `node --env-file` read. */
export async function keepEnvironment(file: string, environment: DevEnvironment): Promise<void> {
  const draft = `${file}.${process.pid}`
  const lines = Object.entries(environment).map(([name, value]) => `${name}='${value}'\n`)
  await writeFile(draft, lines.join(''), { mode: 0o600 })
  await rename(draft, file)
}
