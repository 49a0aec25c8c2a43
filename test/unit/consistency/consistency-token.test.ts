import t from 'tap'
import type { Id } from '#kernel/snowflake.ts'
import { openToken, sealToken } from '#domain/consistency/consistency-token.ts'

const KEY = 'k'.repeat(32)
const ADA = 1n as Id
const BELA = 2n as Id
const NOW_MS = 1_800_000_000_000
const REACH = new Map([
  ['7300000000000000001/1', 0x1234_5678_9abcn],
  ['7300000000000000002/4294967295', 1n],
])
const token = sealToken(KEY, ADA, { reach: REACH, madeMs: NOW_MS })

t.test('a token says to its account what was sealed into it', (t) => {
  t.same(openToken(KEY, ADA, token, NOW_MS), { reach: REACH, madeMs: NOW_MS })
  t.match(token, /^[\w-]{1,512}$/)
  t.end()
})

t.test('no other account, key or time', (t) => {
  t.equal(openToken(KEY, BELA, token, NOW_MS), undefined)
  t.equal(openToken('l'.repeat(32), ADA, token, NOW_MS), undefined)
  t.equal(openToken(KEY, ADA, token, NOW_MS + 300_001), undefined)
  t.ok(openToken(KEY, ADA, token, NOW_MS - 2_000), 'another process’s clock may be behind')
  t.end()
})

t.test('nor anything that was changed or made up', (t) => {
  const bytes = Buffer.from(token, 'base64url')
  for (let at = 0; at < bytes.length; at++) {
    const changed = Buffer.from(bytes)
    changed[at] = (changed[at] ?? 0) ^ 1
    t.equal(openToken(KEY, ADA, changed.toString('base64url'), NOW_MS), undefined, `byte ${at}`)
  }
  for (const text of ['', 'x', '🦊', 'A'.repeat(10_000), bytes.subarray(0, 30).toString('base64url')]) {
    t.equal(openToken(KEY, ADA, text, NOW_MS), undefined)
  }
  t.end()
})

t.test('of very many nodes it names the first, and is no longer than a header may be', (t) => {
  const many = new Map(Array.from({ length: 100 }, (_, index) => [`${index + 1}/1`, BigInt(index)]))
  const sealed = sealToken(KEY, ADA, { reach: many, madeMs: NOW_MS })
  t.equal(openToken(KEY, ADA, sealed, NOW_MS)?.reach.size, 16)
  t.end()
})
