import fc from 'fast-check'
import t from 'tap'
import { readId } from '#kernel/packed-id.ts'
import { MAX_ID } from '#kernel/snowflake.ts'

t.test('an id is read as it was written', async (t) => {
  fc.assert(
    fc.property(fc.bigInt({ min: 0n, max: MAX_ID }), fc.nat({ max: 9 }), (id, at) => {
      const bytes = Buffer.alloc(20, 0xff)
      bytes.writeBigUInt64BE(id, at)
      return readId(bytes, at) === id
    }),
  )
  t.equal(readId(Buffer.from('0102030405060708', 'hex'), 0), 0x0102030405060708n)
})
