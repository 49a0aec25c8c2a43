import { join } from 'node:path'
import t from 'tap'
import { readProcfile } from '../../../scripts/stack/procfile.ts'
import { PROCESS_TYPES } from '../../support/processes.ts'

t.test('the release line stands apart from the processes', async (t) => {
  const directory = t.testdir({ Procfile: '# comment\n\nrelease: node migrate.ts\nweb:  node web.ts --flag \nbulk-worker: node b.ts\n' })
  const { release, processes } = await readProcfile(join(directory, 'Procfile'))
  t.equal(release, 'node migrate.ts')
  t.same([...processes], [['web', 'node web.ts --flag'], ['bulk-worker', 'node b.ts']])
})

t.test('a line that is none is named', async (t) => {
  const directory = t.testdir({ Procfile: 'web node web.ts\n' })
  await t.rejects(readProcfile(join(directory, 'Procfile')), /web node web\.ts/)
})

t.test("Monogram's own has the five process types", async (t) => {
  const { release, processes } = await readProcfile('Procfile')
  t.equal(release, 'node scripts/migrate.ts')
  t.same([...processes], PROCESS_TYPES.map((type) => [type, `node services/${type}/main.ts`]))
})
