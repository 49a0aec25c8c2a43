import t from 'tap'
import { formatShards, parseShards } from '#domain/shards/shard-ranges.ts'

t.test('lists of shards are read', (t) => {
  t.same(parseShards('7'), [7])
  t.same(parseShards('8190-8191, 0-2,1'), [0, 1, 2, 8190, 8191])
  for (const wrong of ['', '-1', '8192', '5-4', '1-', 'a', '1,,2', '0-99999']) t.throws(() => parseShards(wrong), RangeError, wrong)
  t.end()
})

t.test('and written, as short as they can be', (t) => {
  t.equal(formatShards([]), '')
  t.equal(formatShards([0, 1, 2, 5, 7, 8]), '0-2,5,7-8')
  t.same(parseShards(formatShards([3, 4, 9])), [3, 4, 9])
  t.end()
})
