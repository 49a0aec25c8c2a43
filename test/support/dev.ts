import { chmod, glob, readFile, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import type { Test } from 'tap'
import { freePort } from '../../scripts/stack/free-port.ts'
import { readServerPids } from '../../scripts/stack/server-pids.ts'
import { CHECKOUT, copyCheckout } from './checkout-copy.ts'
import { isRunning, startCommand, type RunningCommand } from './command.ts'
import { temporaryDirectory } from './temporary-directory.ts'
import { onTeardown } from './teardown.ts'

/** A `./scripts/dev` that has said that it is ready. */
export interface Dev extends RunningCommand {
  url: string
  /** Every process of the stack: those of the Procfile, then servers, PostgreSQL last. */
  pids: number[]
}

/** The first start may have packages to install. */
const READY_DEADLINE_MS = 240_000

/** A copy of this checkout (so that the developer's own is left alone) that shares its node_modules. */
export async function makeCheckout(t: Test): Promise<string> {
  const directory = await temporaryDirectory(t)
  // Run by root, PostgreSQL is another user, who has to be able to enter.
  await chmod(directory, 0o755)
  await copyCheckout(directory)
  await symlink(join(CHECKOUT, 'node_modules'), join(directory, 'node_modules'))
  return directory
}

/** Runs `./scripts/dev` there, on a free port and with `args`, until it is ready. Stop it by `stopAtTeardown`. */
export async function startDev(t: Test, checkout: string, args: string[] = []): Promise<Dev> {
  const port = await freePort()
  const command = startCommand(t, './scripts/dev', ['--port', String(port), ...args], { cwd: checkout })
  const url = await command.printed(/Monogram is ready at (http:\S+)/, READY_DEADLINE_MS)
  t.equal(url, `http://127.0.0.1:${port}`)
  const state = join(checkout, args.includes('--full') ? '.monogram/full' : '.monogram')
  const pids = [...(await processesOf(checkout)), ...(await serversOf(state)), ...(await postmastersOf(state))]
  return { ...command, url, pids }
}

/** Stops the stack whatever happened in the test, so that nothing outlives it. */
export function stopAtTeardown(t: Test, dev: Dev): void {
  onTeardown(t, async () => {
    if (!(await isRunning(dev.pid))) return
    process.kill(dev.pid, 'SIGTERM')
    await dev.ended
  })
}

async function processesOf(checkout: string): Promise<number[]> {
  const { children } = JSON.parse(await readFile(join(checkout, '.monogram/run.json'), 'utf8')) as { children: { pid: number }[] }
  return children.map(({ pid }) => pid)
}

/** Beside PostgreSQL; none without --full. */
async function serversOf(state: string): Promise<number[]> {
  const pids: number[] = []
  for await (const file of glob(['*.pid', 'rabbitmq/*.pid'], { cwd: state })) {
    pids.push(...(await readServerPids(join(state, file))).map(({ pid }) => pid))
  }
  return pids
}

/** One, or with --full one for each node and replica. */
async function postmastersOf(state: string): Promise<number[]> {
  const pids: number[] = []
  for await (const file of glob('{.,full-*}/postgres/data/postmaster.pid', { cwd: state })) {
    const [pid] = (await readFile(join(state, file), 'utf8')).split('\n')
    pids.push(Number(pid))
  }
  return pids
}
