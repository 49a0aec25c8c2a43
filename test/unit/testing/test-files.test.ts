import t from 'tap'
import { filesOf, inOrder, isAlone, LONG, STAGES } from '../../../scripts/testing/test-files.ts'

t.test('every file has its place, once', (t) => {
  const files = STAGES.flatMap(filesOf)
  const together = inOrder(files.filter((file) => !isAlone(file)))
  const alone = files.filter(isAlone)
  t.same([...together, ...alone].toSorted(), files.toSorted())
  t.ok(alone.length > 0)
  const firstLong = together.findIndex((file) => !file.startsWith('test/unit/'))
  t.same(together.slice(firstLong, firstLong + LONG.length), LONG.map((name) => `test/${name}.test.ts`), 'the lists name files that are there')
  t.end()
})
