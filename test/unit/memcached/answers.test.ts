import fc from 'fast-check'
import t from 'tap'
import { casOf, cutAnswers, HEADER_BYTES, valueOf } from '#platform/memcached/answers.ts'

interface Made {
  readonly status: number
  readonly opaque: number
  readonly key: string
  readonly extras: number
  readonly value: Buffer
}

/** An answer as memcached writes it (doc/protocol-binary.txt). */
function write({ status, opaque, key, extras, value }: Made): Buffer {
  const header = Buffer.alloc(HEADER_BYTES)
  header[0] = 0x81
  header.writeUInt16BE(key.length, 2)
  header[4] = extras
  header.writeUInt16BE(status, 6)
  header.writeUInt32BE(extras + key.length + value.length, 8)
  header.writeUInt32BE(opaque, 12)
  header.writeUInt32BE(opaque, 20)
  return Buffer.concat([header, Buffer.alloc(extras, 7), Buffer.from(key, 'latin1'), value])
}

const made: fc.Arbitrary<Made> = fc.record({
  status: fc.constantFrom(0, 1, 2),
  opaque: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
  key: fc.string({ maxLength: 30, unit: 'binary-ascii' }),
  extras: fc.constantFrom(0, 4),
  value: fc.uint8Array({ maxLength: 200 }).map((array) => Buffer.from(array)),
})

t.test('answers come out as they were written, however the bytes are cut into chunks', async (t) => {
  fc.assert(
    fc.property(fc.array(made, { maxLength: 8 }), fc.array(fc.integer({ min: 1, max: 90 }), { minLength: 1 }), (all, steps) => {
      const bytes = Buffer.concat(all.map(write))
      const seen: Omit<Made, 'key' | 'extras'>[] = []
      const cas: number[] = []
      const cut = cutAnswers(
        (answer) => {
          seen.push({ status: answer.status, opaque: answer.opaque, value: Buffer.from(valueOf(answer)) })
          cas.push(casOf(answer).readUInt32BE(4))
          return true
        },
        (reason) => t.fail(reason),
      )
      for (let at = 0, turn = 0; at < bytes.length; turn++) {
        const step = steps[turn % steps.length] ?? 1
        cut(bytes.subarray(at, at + step))
        at += step
      }
      t.same(seen, all.map(({ status, opaque, value }) => ({ status, opaque, value })))
      t.same(cas, all.map(({ opaque }) => opaque))
    }),
    { numRuns: 200 },
  )
})

t.test('what cannot be an answer is refused as soon as it is known', async (t) => {
  const good = write({ status: 0, opaque: 1, key: '', extras: 4, value: Buffer.from('v') })
  const tooLong = Buffer.from(good)
  tooLong.writeUInt32BE(2_000_000, 8)
  const tooShort = Buffer.from(good)
  tooShort.writeUInt32BE(3, 8)
  for (const [name, bytes] of [['text', Buffer.from('ERROR\r\n')], ['a body too long', tooLong], ['a body too short', tooShort]] as const) {
    for (const chunks of [[bytes], [bytes.subarray(0, 10), bytes.subarray(10)]]) {
      const refused: string[] = []
      let taken = 0
      const cut = cutAnswers(() => (taken++, true), (reason) => void refused.push(reason))
      cut(good)
      for (const chunk of chunks) if (refused.length === 0 && chunk.length > 0) cut(chunk)
      t.same([taken, refused.length], [1, 1], name)
    }
  }
})

t.test('after an answer that its taker could not place, nothing more is looked at', async (t) => {
  const good = write({ status: 0, opaque: 1, key: '', extras: 0, value: Buffer.from('v') })
  let taken = 0
  const cut = cutAnswers(() => (taken++, false), () => t.fail('not refused'))
  cut(Buffer.concat([good, good]))
  t.equal(taken, 1)
})
