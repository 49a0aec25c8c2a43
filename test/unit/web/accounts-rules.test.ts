import t from 'tap'
import { ProblemError } from '#kernel/errors.ts'
import { checkProfileChange, checkSignUp, normaliseUsername } from '#domain/accounts/accounts.rules.ts'

/** The fields that a refusal names. */
function refusedFields(work: () => unknown): string[] {
  try {
    work()
    return []
  } catch (error) {
    if (!(error instanceof ProblemError)) throw error
    return (error.errors ?? []).map((field) => field.path)
  }
}

t.test('usernames', async (t) => {
  for (const [text, stored] of [['abc', 'abc'], ['A.b_9', 'a.b_9'], ['___', '___'], ['1a1', '1a1'], ['x'.repeat(30), 'x'.repeat(30)]] as const) {
    t.equal(normaliseUsername(text), stored, text)
  }
  for (const text of ['ab', 'x'.repeat(31), '123', '1.2', '...', 'a-b', 'a b', 'ä_b', '\u212Aelvin', 'abc\n', 'a\0b', '']) {
    t.equal(normaliseUsername(text), undefined, JSON.stringify(text))
  }
})

t.test('a sign-up names every field that is wrong', async (t) => {
  const good = { username: 'Ann', password: '12345678' }
  t.strictSame(checkSignUp(good), { username: 'ann', password: '12345678', displayName: 'ann', email: null })
  t.strictSame(checkSignUp({ ...good, displayName: ' Ann 🦊 ', email: ' Ann@Example.ORG ' }), {
    username: 'ann',
    password: '12345678',
    displayName: 'Ann 🦊',
    email: 'ann@example.org',
  })
  t.strictSame(
    refusedFields(() => checkSignUp({ username: 'x', password: '1234567', displayName: '', email: 'nobody' })),
    ['/body/username', '/body/password', '/body/displayName', '/body/email'],
  )
  t.equal(checkSignUp({ ...good, password: '🦊'.repeat(256) }).password.length, 512, 'a fox is one character')
  t.strictSame(refusedFields(() => checkSignUp({ ...good, password: 'e\u0301'.repeat(200) })), ['/body/password'])
  t.strictSame(refusedFields(() => checkSignUp({ ...good, displayName: 'x'.repeat(51) })), ['/body/displayName'])
  t.strictSame(refusedFields(() => checkSignUp({ ...good, displayName: 'a\0b' })), ['/body/displayName'])
  t.strictSame(refusedFields(() => checkSignUp({ ...good, email: `${'x'.repeat(251)}@a.b` })), ['/body/email'])
})

t.test('a change of the profile', async (t) => {
  t.strictSame(checkProfileChange({}), {})
  t.strictSame(checkProfileChange({ displayName: ' B ', bio: 'one\ntwo', private: false }), {
    displayName: 'B',
    bio: 'one\ntwo',
    private: false,
  })
  t.strictSame(refusedFields(() => checkProfileChange({ displayName: ' ', bio: 'x'.repeat(501) })), [
    '/body/displayName',
    '/body/bio',
  ])
  t.throws(() => checkProfileChange({ private: true }), { code: 'private_accounts_unavailable' })
})
