import { randomBytes } from 'node:crypto'
import { chmod, chown, mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { mayUse, serverAccount } from './account.ts'
import { placeOutside } from './binaries.ts'
import { freePort } from './free-port.ts'
import type { Account } from './run-command.ts'

/** Where one server keeps what it has: its data, its log, and the port and password it was given. */
export interface ServerHome {
  account: Account | undefined
  directory: string
  data: string
  log: string
}

/** What a server remembers from one start to the next. */
export interface ServerMemory {
  port: number
  password: string
}

const MEMORY_FILE = 'server.json'

/**
 * Makes (or finds) `<directory>/<program>` and the user the server runs as; when that user cannot reach it, a directory
 * named after `directory` in the checkout's place under /var/tmp. Throws when the directory belongs to another user.
 */
export async function serverHome(checkout: string, directory: string, program = 'postgres'): Promise<ServerHome> {
  const inside = join(directory, program)
  const account = await serverAccount(join(inside, 'data'))
  await ownedDirectory(inside, account)
  if (await mayUse(inside, account)) return homeAt(inside, account)
  if (account === undefined) throw new Error(`${inside} was made by another user (by root?): remove it, or start as that user.`)
  const outside = join(await placeOutside(checkout, account), basename(directory))
  await ownedDirectory(outside, account)
  return homeAt(outside, account)
}

/** The port and password of the server at `home`: remembered, or new. */
export async function recallMemory(home: ServerHome): Promise<ServerMemory> {
  const text = await readFile(join(home.directory, MEMORY_FILE), 'utf8').catch(() => undefined)
  if (text !== undefined) return JSON.parse(text) as ServerMemory
  return { port: await freePort(), password: randomBytes(24).toString('base64url') }
}

/** Keeps the port and password for the next start, readable by nobody else, in one step. */
export async function keepMemory(home: ServerHome, memory: ServerMemory): Promise<void> {
  await writeOwned(home, MEMORY_FILE, JSON.stringify(memory))
}

/** Writes a file of `home` that only the server's user (and root) can read, and gives its path. */
export async function writeOwned(home: ServerHome, name: string, text: string): Promise<string> {
  const file = join(home.directory, name)
  const draft = `${file}.${process.pid}`
  await writeFile(draft, text, { mode: 0o600 })
  if (home.account !== undefined) await chown(draft, home.account.uid, home.account.gid)
  await rename(draft, file)
  return file
}

function homeAt(directory: string, account: Account | undefined): ServerHome {
  return { account, directory, data: join(directory, 'data'), log: join(directory, 'server.log') }
}

async function ownedDirectory(directory: string, account: Account | undefined): Promise<void> {
  await mkdir(directory, { recursive: true, mode: 0o755 })
  if (account === undefined) return
  await chown(directory, account.uid, account.gid)
  await chmod(directory, 0o700)
}
