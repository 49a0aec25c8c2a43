import { readFile } from 'node:fs/promises'
import t from 'tap'
import { ADVISORY_LOCKS } from '#platform/postgres/advisory-locks.ts'

t.test('no two advisory locks have one number', async (t) => {
  const numbers = Object.values(ADVISORY_LOCKS)
  t.equal(new Set(numbers).size, numbers.length)
})

t.test('the door of the first migration is the door', async (t) => {
  const migration = await readFile('shared/migrations/0001-shards.ts', 'utf8')
  t.match(migration, `pg_advisory_xact_lock_shared(${ADVISORY_LOCKS.door}, entered)`)
})
