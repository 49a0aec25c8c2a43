import { setTimeout as wait } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { seededRandom } from '../../scripts/pictures/random.ts'
import { apiClient } from '../support/api-client.ts'
import { startMonogram, type Monogram } from '../support/monogram.ts'
import { openDatabase } from '../support/open-database.ts'
import { PROCESS_TYPES, type ProcessType, type TestProcess } from '../support/processes.ts'
import { assertOutcome, startLoad } from './people-load.ts'

/**
 * Row 1 of the faults, on the full stack: fifty times kill -9 of a random process of a random type, of two each, while
 * people sign up, upload, edit, follow and unfollow. Nothing acknowledged is lost, and nothing has happened twice.
 */
const SEED = 1
const KILLS = 50
const KILL_EVERY_MS = 1_500
const OF_EACH_TYPE = 2

t.test('fifty kills under load', async (t) => {
  const monogram = await startMonogram(t, {
    stack: 'full',
    counts: Object.fromEntries(PROCESS_TYPES.map((type) => [type, OF_EACH_TYPE])),
  })
  const db = openDatabase(t, monogram.databaseUrl)
  const api = apiClient(monogram.urls)
  const load = await startLoad(api)
  await killAtRandom(t, monogram, load.failed)
  await assertOutcome(t, { monogram, nodes: [{ name: 'DATABASE_URL', db }], api }, await load.stop())
})

/** Kills and starts again, until `failed` tells of a load that went wrong. */
async function killAtRandom(t: Test, monogram: Monogram, failed: Promise<never>): Promise<void> {
  const random = seededRandom(SEED)
  const pick = (count: number): number => Math.floor(random() * count)
  const slots = Object.fromEntries(
    PROCESS_TYPES.map((type) => [type, monogram.processes[type].map((process) => Promise.resolve(process))]),
  ) as Record<ProcessType, Promise<TestProcess>[]>
  const killed = new Map<ProcessType, number>()

  for (let kill = 0; kill < KILLS; kill++) {
    const type = PROCESS_TYPES[pick(PROCESS_TYPES.length)] ?? 'web'
    const slot = pick(OF_EACH_TYPE)
    const pace = wait(KILL_EVERY_MS)
    // One of each type goes on while the other boots.
    const victim = (await Promise.race([Promise.all(slots[type]), failed]))[slot]
    t.same(await victim?.kill('SIGKILL'), { code: null, signal: 'SIGKILL' })
    const started = monogram.start(type, type === 'web' ? { PORT: String(victim?.port ?? 0) } : {})
    started.catch(() => undefined)
    slots[type][slot] = started
    killed.set(type, (killed.get(type) ?? 0) + 1)
    await Promise.race([pace, failed])
  }
  await Promise.all(PROCESS_TYPES.flatMap((type) => slots[type]))
  t.comment(`killed: ${[...killed].map(([type, count]) => `${count} ${type}`).join(', ')}`)
}
