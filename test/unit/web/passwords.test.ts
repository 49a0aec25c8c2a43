import t from 'tap'
import { createPasswords } from '#domain/accounts/passwords.ts'

t.test('argon2id, salted, and the right password only', async (t) => {
  const passwords = createPasswords()
  const [one, two] = await Promise.all([passwords.hash('correct horse'), passwords.hash('correct horse')])
  t.match(one, /^\$argon2id\$v=19\$m=19456,t=2,p=1\$/)
  t.not(one, two)
  t.equal(await passwords.verify(one, 'correct horse'), true)
  t.equal(await passwords.verify(one, 'correct horsf'), false)
  t.equal(await passwords.verify(await passwords.hash('é1234567'), 'e\u03011234567'), true, 'however it was typed')
})

t.test('without a hash the answer is no, and the work is done nonetheless', async (t) => {
  const passwords = createPasswords()
  const hash = await passwords.hash('correct horse')
  const known = await time(() => passwords.verify(hash, 'wrong'))
  const unknown = await time(() => passwords.verify(undefined, 'wrong'))
  t.equal(known.result, false)
  t.equal(unknown.result, false)
  // An answer without work would come some hundred times sooner.
  t.ok(unknown.ms > known.ms / 10, `${unknown.ms} ms and ${known.ms} ms`)
})

t.test('a flood is turned away with a Retry-After, and those who wait are served', async (t) => {
  const passwords = createPasswords()
  const flood = await Promise.allSettled(Array.from({ length: 300 }, () => passwords.verify(undefined, 'x')))
  const refused = flood.filter((outcome) => outcome.status === 'rejected')
  t.equal(refused.length, 300 - 2 - 256)
  t.match(refused[0]?.reason, { code: 'unavailable', retryAfterSeconds: Number })
  t.equal(await passwords.verify(undefined, 'x'), false, 'and then it is free again')
})

async function time<T>(work: () => Promise<T>): Promise<{ result: T; ms: number }> {
  const startedMs = performance.now()
  const result = await work()
  return { result, ms: performance.now() - startedMs }
}
