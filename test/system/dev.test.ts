import { createServer } from 'node:net'
import t from 'tap'
import { freePort } from '../../scripts/stack/free-port.ts'
import { apiClient, PASSWORD } from '../support/api-client.ts'
import { allGone, startCommand } from '../support/command.ts'
import { makeCheckout, startDev, stopAtTeardown } from '../support/dev.ts'

/** `./scripts/dev` as a developer uses it. */

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
