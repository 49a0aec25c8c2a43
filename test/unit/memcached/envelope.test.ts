import fc from 'fast-check'
import t from 'tap'
import { ENVELOPE_BYTES, seal, unseal } from '#platform/memcached/envelope.ts'

const bytes = fc.uint8Array({ maxLength: 300 }).map((array) => Buffer.from(array))

t.test('what was sealed comes out again, without a copy', async (t) => {
  fc.assert(
    fc.property(fc.string(), bytes, (key, value) => {
      const opened = unseal(key, seal(key, { kind: 'value', bytes: value }))
      return opened?.kind === 'value' && opened.bytes.equals(value)
    }),
  )
  for (const kind of ['absent', 'lease'] as const) t.same(unseal('k', seal('k', { kind })), { kind })
  const sealed = seal('k', { kind: 'value', bytes: Buffer.from('abc') })
  const opened = unseal('k', sealed)
  t.ok(opened?.kind === 'value' && opened.bytes.buffer === sealed.buffer)
})

t.test('any other bytes are refused', async (t) => {
  const changed = fc.tuple(bytes, fc.nat(), fc.integer({ min: 1, max: 255 }))
  fc.assert(
    fc.property(changed, ([value, place, flip]) => {
      const sealed = seal('k', { kind: 'value', bytes: value })
      const at = place % sealed.length
      sealed[at] = (sealed[at] ?? 0) ^ flip
      return unseal('k', sealed) === undefined
    }),
  )
  fc.assert(
    fc.property(bytes, fc.nat(), (value, cut) => {
      const sealed = seal('k', { kind: 'value', bytes: value })
      return unseal('k', sealed.subarray(0, cut % sealed.length)) === undefined
    }),
  )
  fc.assert(fc.property(bytes, (noise) => unseal('k', noise) === undefined))
  t.equal(unseal('k', Buffer.concat([seal('k', { kind: 'absent' }), Buffer.alloc(1)])), undefined, 'one byte more')
  t.equal(unseal('k', Buffer.alloc(ENVELOPE_BYTES)), undefined)
})

t.test('a value is good under its own key only', async (t) => {
  t.equal(unseal('photo:2', seal('photo:1', { kind: 'value', bytes: Buffer.from('one') })), undefined)
  t.equal(unseal('photo:2', seal('photo:1', { kind: 'absent' })), undefined)
})
