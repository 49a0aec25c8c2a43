import { spawn, type ChildProcess } from 'node:child_process'
import { resolve } from 'node:path'
import t from 'tap'
import { listDeadLetters } from '#platform/outbox/dead-letters.ts'
import { eventually } from '../../support/eventually.ts'
import { onTeardown } from '../../support/teardown.ts'
import { openNode, outboxRows, publishCounted } from './fixture.ts'
import { POISON, POISON_ATTEMPTS } from './poison-worker.ts'

const WORKER = resolve(import.meta.dirname, 'poison-worker.ts')
const WORKERS = 3

t.test('a job that kills its worker each time becomes a dead letter alone; those claimed beside it are done', async (t) => {
  const node = await openNode(t)
  const workers = new Set<ChildProcess>()
  let killed = 0
  let isOver = false
  const start = (): void => {
    const child = spawn(process.execPath, [WORKER, node.url], { stdio: 'ignore' })
    workers.add(child)
    child.once('close', () => {
      workers.delete(child)
      if (isOver) return
      killed++
      start()
    })
  }
  onTeardown(t, async () => {
    isOver = true
    for (const worker of workers) worker.kill('SIGKILL')
    await eventually('the workers are gone', async () => Promise.resolve(workers.size === 0 ? true : undefined))
  })

  // The first to come claims them all together.
  await publishCounted(node, ...Array.from({ length: 8 }, (_, index) => POISON - 4 + index))
  for (let worker = 0; worker < WORKERS; worker++) start()
  await eventually('an empty outbox', async () => ((await outboxRows(node)).length === 0 ? true : undefined))
  const letters = await listDeadLetters(node.primary, {}, { limit: 100 })
  t.match(letters, [{ body: { n: POISON }, cause: 'abandoned', attempts: POISON_ATTEMPTS + 1 }])
  t.equal(letters.length, 1)
  t.equal(killed, POISON_ATTEMPTS)
})
