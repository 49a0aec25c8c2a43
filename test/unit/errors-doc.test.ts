import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import t from 'tap'
import { ERRORS } from '#kernel/errors.ts'

const ROW = /^\| `([a-z_]+)` \| (\d{3}) \| (.+) \| (.+) \|$/

t.test('docs/errors.md explains every code of the catalogue, with its status, and no other', async (t) => {
  const text = await readFile(resolve(import.meta.dirname, '../../docs/errors.md'), 'utf8')
  const rows = text.split('\n').flatMap((line) => {
    const [, code = '', status] = ROW.exec(line) ?? []
    return code === '' ? [] : [[code, Number(status)]]
  })
  t.strictSame(
    rows,
    Object.entries(ERRORS).map(([code, { status }]) => [code, status]),
    'in the order of the catalogue',
  )
})
