import pg from 'pg'
import t from 'tap'
import { valueParsers } from '#platform/postgres/value-parsers.ts'

const TIMESTAMPTZ = 1184
const TEXT_ARRAY = 1009
const INT8 = 20
const INT8_ARRAY = 1016

type GetParser = (oid: number, format?: 'text' | 'binary') => (text: string) => unknown
const parserOf: GetParser = valueParsers.getTypeParser
const theirParserOf: GetParser = pg.types.getTypeParser

t.test('times are what pg makes of them', async (t) => {
  const [ours, theirs] = [parserOf(TIMESTAMPTZ), theirParserOf(TIMESTAMPTZ)]
  for (const text of [
    '2026-06-01 12:34:56.789012+00', '2026-06-01 12:34:56.7+00', '2026-12-31 23:59:59+00', '2024-02-29 00:00:00.000001+00',
    '2026-06-01 12:34:56.789012+02', '2026-06-01 12:34:56+05:30', '1999-01-01 00:00:00.999999-11', '0050-01-01 00:00:00+00',
    '0101-01-01 00:00:00+00', '12026-01-01 00:00:00+00', '0044-03-15 12:00:00+00 BC', 'infinity', '-infinity',
  ]) {
    t.same(ours(text), theirs(text), text)
  }
})

t.test('texts are what pg makes of them', async (t) => {
  const [ours, theirs] = [parserOf(TEXT_ARRAY), theirParserOf(TEXT_ARRAY)]
  for (const text of [
    '{}', '{one}', '{harbour,morning}', '{"two words",plain}', '{"with, comma"}', '{"quo\\"te"}', '{"back\\\\slash"}', '{NULL,a}',
    '{"NULL"}', '{nullify}', '{{a,b},{c,d}}', '[2:3]={a,b}', '{""}', '{größe,😀}', '{"{"}',
  ]) {
    t.same(ours(text), theirs(text), text)
  }
})

t.test('64-bit integers are bigint', async (t) => {
  t.equal(parserOf(INT8)('9223372036854775807'), 9223372036854775807n)
  t.same(parserOf(INT8_ARRAY)('{1,-2}'), [1n, -2n])
  t.same(parserOf(INT8_ARRAY)('{}'), [])
})
