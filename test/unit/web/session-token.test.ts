import { createHash } from 'node:crypto'
import fc from 'fast-check'
import t from 'tap'
import { MAX_ID, type Id } from '#kernel/snowflake.ts'
import { mintSessionToken, parseSessionToken } from '#domain/accounts/session-token.ts'

const anyId = fc.bigInt({ min: 1n, max: MAX_ID }).map((id) => id as Id)

t.test('a token gives back whose it is, and the hash of a secret that it alone holds', async (t) => {
  fc.assert(
    fc.property(anyId, anyId, (accountId, sessionId) => {
      const { token, secretHash } = mintSessionToken(accountId, sessionId)
      t.match(token, /^mg1_[A-Za-z0-9_-]{59}$/)
      t.strictSame(parseSessionToken(token), { accountId, sessionId, secretHash })
    }),
    { numRuns: 50 },
  )
  const [a, b] = [mintSessionToken(1n as Id, 2n as Id), mintSessionToken(1n as Id, 2n as Id)]
  t.not(a.token, b.token)
  const secret = Buffer.from(a.token.slice(4), 'base64url').subarray(16, 40)
  t.strictSame(a.secretHash, createHash('sha256').update(secret).digest())
})

t.test('every flipped bit of the text is refused', async (t) => {
  const { token } = mintSessionToken(236198840723313664n as Id, 236198840731702272n as Id)
  const bytes = Buffer.from(token, 'latin1')
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    const flipped = Buffer.from(bytes)
    flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7))
    if (parseSessionToken(flipped.toString('latin1')) !== undefined) t.fail(`bit ${bit} may be flipped`)
  }
  t.pass('none passed')
})

t.test('other texts are no tokens', async (t) => {
  const { token } = mintSessionToken(1n as Id, 2n as Id)
  for (const text of ['', 'mg1_', token.slice(0, -1), `${token}A`, token.replace('mg1_', 'mg2_'), ` ${token}`, `${token}=`]) {
    t.equal(parseSessionToken(text), undefined, JSON.stringify(text))
  }
  fc.assert(fc.property(fc.string({ maxLength: 80 }), (text) => parseSessionToken(`mg1_${text}`) === undefined))
})
