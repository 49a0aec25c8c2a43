import { chmod, readFile, symlink } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { freePort } from '../../scripts/stack/free-port.ts'
import { apiClient, PASSWORD } from '../support/api-client.ts'
import { CHECKOUT, copyCheckout } from '../support/checkout-copy.ts'
import { allGone, startCommand, type RunningCommand } from '../support/command.ts'
import { temporaryDirectory } from '../support/monogram.ts'
import { onTeardown } from '../support/teardown.ts'

/**
 * `./scripts/dev` as a developer uses it, in a copy of this checkout (so that the developer's own is left alone) that
 * shares its node_modules.
 */

interface Dev extends RunningCommand {
  url: string
  /** Every process of the stack, PostgreSQL included. */
  pids: number[]
}

async function makeCheckout(t: Test): Promise<string> {
  const directory = await temporaryDirectory(t)
  // Run by root, PostgreSQL is another user, who has to be able to enter.
  await chmod(directory, 0o755)
  await copyCheckout(directory)
  await symlink(join(CHECKOUT, 'node_modules'), join(directory, 'node_modules'))
  return directory
}

async function startDev(t: Test, checkout: string, args: string[] = []): Promise<Dev> {
  const port = await freePort()
  const command = startCommand(t, './scripts/dev', ['--port', String(port), ...args], { cwd: checkout })
  const url = await command.printed(/Monogram is ready at (http:\S+)/)
  t.equal(url, `http://127.0.0.1:${port}`)
  return { ...command, url, pids: await pidsOf(checkout) }
}

async function pidsOf(checkout: string): Promise<number[]> {
  const { children } = JSON.parse(await readFile(join(checkout, '.monogram/run.json'), 'utf8')) as { children: { pid: number }[] }
  const [postgres = ''] = (await readFile(join(checkout, '.monogram/postgres/data/postmaster.pid'), 'utf8')).split('\n')
  return [...children.map(({ pid }) => pid), Number(postgres)]
}

/** Stops the stack whatever happened in the test, so that nothing outlives it. */
function stopAtTeardown(t: Test, dev: Dev): void {
  onTeardown(t, async () => {
    if (dev.output().includes('PostgreSQL stopped.')) return
    process.kill(dev.pid, 'SIGTERM')
    await dev.ended
  })
}

t.test('starts, stops in an orderly way, and keeps the data', async (t) => {
  const checkout = await makeCheckout(t)

  await t.test('Ctrl-C stops everything and exits 0', async (t) => {
    const dev = await startDev(t, checkout, ['--web', '2'])
    stopAtTeardown(t, dev)
    t.equal(dev.pids.length, 7, 'two web processes, four workers, PostgreSQL')
    await apiClient([dev.url]).signUp('ada')
    dev.interrupt()
    dev.interrupt()
    t.same(await dev.ended, { code: 0, signal: null })
    await allGone(dev.pids)
    t.notMatch(dev.output(), /Killed/, 'every process left by itself')
  })

  await t.test('a second start has the data; SIGTERM stops everything and exits 0', async (t) => {
    const dev = await startDev(t, checkout)
    stopAtTeardown(t, dev)
    const answer = await apiClient([dev.url]).call('POST', '/v1/sessions', { json: { username: 'ada', password: PASSWORD } })
    t.equal(answer.status, 201)
    process.kill(dev.pid, 'SIGTERM')
    t.same(await dev.ended, { code: 0, signal: null })
    await allGone(dev.pids)
  })

  await t.test('a start after a kill -9 ends what was left, and has the data', async (t) => {
    const killed = await startDev(t, checkout)
    process.kill(killed.pid, 'SIGKILL')
    const dev = await startDev(t, checkout)
    stopAtTeardown(t, dev)
    const [postgres] = killed.pids.slice(-1)
    await allGone(killed.pids.filter((pid) => pid !== postgres))
    t.equal(dev.pids.at(-1), postgres, 'the server that still ran is used')
    const answer = await apiClient([dev.url]).call('GET', '/v1/accounts/ada')
    t.equal(answer.status, 200)

    const second = startCommand(t, './scripts/dev', [], { cwd: checkout })
    t.same(await second.ended, { code: 1, signal: null })
    t.match(second.output(), /already runs here/)
    dev.interrupt()
    await dev.ended
    await allGone(dev.pids)
  })

  await t.test('a process that dies stops the others and is named', async (t) => {
    const dev = await startDev(t, checkout)
    stopAtTeardown(t, dev)
    const [web] = dev.pids
    process.kill(web ?? 0, 'SIGKILL')
    t.same(await dev.ended, { code: 1, signal: null })
    t.match(dev.output(), /web\.1 ended by itself \(exit code SIGKILL\)/)
    await allGone(dev.pids)
  })

  await t.test('--fresh says that it removes the data, and does', async (t) => {
    const dev = await startDev(t, checkout, ['--fresh'])
    stopAtTeardown(t, dev)
    t.match(dev.output(), /Removing all data/)
    const answer = await apiClient([dev.url]).call('GET', '/v1/accounts/ada')
    t.equal(answer.status, 404)
    dev.interrupt()
    await dev.ended
  })

  await t.test('a port that is taken is named, with what to do', async (t) => {
    const other = createServer()
    const port = await freePort()
    await new Promise<void>((resolve) => other.listen(port, '127.0.0.1', resolve))
    t.teardown(() => other.close())
    const dev = startCommand(t, './scripts/dev', ['--port', String(port)], { cwd: checkout })
    t.same(await dev.ended, { code: 1, signal: null })
    t.match(dev.output(), new RegExp(`Port ${port} is taken.*--port`))
  })
})
