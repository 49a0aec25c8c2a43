import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { promisify } from 'node:util'
import t from 'tap'
import { accepts, claimPort, freePort, isPortFree } from '../../../scripts/stack/free-port.ts'

/** Servers start long after their ports were chosen, and others choose meanwhile: no port may be given to two. */

const run = promisify(execFile)
const LIBRARY = new URL('../../../scripts/stack/free-port.ts', import.meta.url).href
/** Says a port that is free, and keeps running until it is told to end. */
const ASKER = `import { freePort } from ${JSON.stringify(LIBRARY)}; console.log(await freePort()); process.stdin.resume()`

t.test('a port that another process was given is nobody else’s until that process ends', async (t) => {
  const asker = spawn(process.execPath, ['--input-type=module', '-e', ASKER], { stdio: ['pipe', 'pipe', 'inherit'] })
  t.teardown(() => asker.kill('SIGKILL'))
  const [said] = (await once(asker.stdout, 'data')) as [Buffer]
  const port = Number(said.toString())
  t.ok(await isPortFree(port), 'nothing listens on it yet')
  t.not(await freePort(port), port)
  t.notOk(await claimPort(port))

  asker.kill('SIGKILL')
  await once(asker, 'close')
  t.equal(await freePort(port), port)
})

t.test('a process gets the port that it prefers again, and never one of its own when it asks for any', async (t) => {
  const port = await freePort()
  t.equal(await freePort(port), port)
  const others = await Promise.all(Array.from({ length: 50 }, () => freePort()))
  t.equal(new Set([port, ...others]).size, 51)
})

t.test('a port outside the range is given without a claim, and what listens is seen', async (t) => {
  t.ok(await claimPort(3_000))
  t.notOk(await claimPort(26_000), 'where claims are')
  const port = await freePort()
  t.notOk(await accepts(port))
})

t.test('claims keep no process from its end', async () => {
  await run(process.execPath, ['--input-type=module', '-e', ASKER.replace(/process\.stdin.*/, '')])
})
