import fc from 'fast-check'
import t from 'tap'
import { createAckGroups } from '#platform/rabbitmq/ack-groups.ts'

t.test('what is settled in one turn and has nothing open before it goes in one acknowledgement', (t) => {
  const sent: [number, boolean][] = []
  const groups = createAckGroups((tag, multiple) => sent.push([tag, multiple]))
  for (let tag = 1; tag <= 6; tag++) groups.arrived(tag)
  for (const tag of [3, 1, 2, 6, 5]) groups.settled(tag)
  groups.flush()
  t.same(sent, [[3, true], [6, false], [5, false]], 'not up to 6: 4 is at work')
  t.equal(groups.unsettled, 1)
  groups.settled(4)
  groups.settled(4)
  groups.flush()
  t.same(sent.at(-1), [4, false])
  t.equal(sent.length, 4)
  t.end()
})

t.test('in every order, each delivery is acknowledged once, and never before it is settled', (t) => {
  fc.assert(
    fc.property(fc.shuffledSubarray([...Array(20).keys()].map((n) => n + 1)), fc.array(fc.nat(5)), (order, batches) => {
      const open = new Set([...Array(20).keys()].map((n) => n + 1))
      const settled = new Set<number>()
      const groups = createAckGroups((tag, multiple) => {
        const acked = multiple ? [...open].filter((candidate) => candidate <= tag) : [tag]
        for (const each of acked) if (!open.delete(each) || !settled.has(each)) throw new Error(`${each} was not settled`)
      })
      for (const tag of open) groups.arrived(tag)
      const left = [...order]
      for (const size of [...batches, left.length]) {
        for (const tag of left.splice(0, size)) {
          settled.add(tag)
          groups.settled(tag)
        }
        groups.flush()
      }
      return open.size === 20 - order.length
    }),
  )
  t.end()
})
