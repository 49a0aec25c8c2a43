import { execFile } from 'node:child_process'
import { sql } from 'kysely'
import t from 'tap'
import { openNode, outboxRows, type TestNode } from './fixture.ts'

interface Run {
  readonly code: number
  readonly out: string
  readonly err: string
}

function runCommand(nodes: readonly TestNode[], ...words: string[]): Promise<Run> {
  const urls = Object.fromEntries(nodes.map(({ name, url }) => [name, url]))
  const env = { PATH: process.env.PATH, DATABASE_NODES: nodes.map(({ name }) => name).join(','), ...urls }
  return new Promise((resolve) => {
    execFile(process.execPath, ['scripts/dead-letters.ts', ...words], { env }, (error, out, err) =>
      resolve({ code: typeof error?.code === 'number' ? error.code : 0, out, err }),
    )
  })
}

async function addLetters(node: TestNode, count: number): Promise<void> {
  await sql`insert into dead_letters (message_id, queue, event, body, enqueued_at, attempts, cause, detail, failed_at)
    select ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, 'work', 'counted', jsonb_build_object('n', n), '2026-01-01Z', 8,
      'deadline', E'too\nslow', timestamptz '2026-02-01Z' + n * interval '1 hour'
    from generate_series(1, ${count}) n`.execute(node.primary)
}

t.test('letters of all nodes are listed in pages, replayed by name, discarded by filter', async (t) => {
  const nodes = [await openNode(t, 'EAST'), await openNode(t, 'WEST')]
  const [east, west] = nodes as [TestNode, TestNode]
  await addLetters(east, 2)
  await addLetters(west, 1)

  t.equal(
    (await runCommand(nodes, 'list')).out,
    'EAST:2\t2026-02-01T02:00:00.000Z\twork\tcounted\tdeadline\t8\ttoo slow\n' +
      'EAST:1\t2026-02-01T01:00:00.000Z\twork\tcounted\tdeadline\t8\ttoo slow\n' +
      'WEST:1\t2026-02-01T01:00:00.000Z\twork\tcounted\tdeadline\t8\ttoo slow\n',
  )
  const page = await runCommand(nodes, 'list', '--after', 'EAST:2', '--limit', '1', '--json')
  t.match(JSON.parse(page.out), { id: 'EAST:1', body: { n: 1 }, messageId: '00000000-0000-4000-8000-000000000001' })

  t.match(await runCommand(nodes, 'replay', 'EAST:2', 'WEST:1'), { code: 0, out: 'replayed 2\n' })
  t.match([await outboxRows(east), await outboxRows(west)], [[{ n: 2 }], [{ n: 1 }]])
  t.match(await runCommand(nodes, 'discard', '--before', '2026-02-01T01:30:00Z', '--queue', 'work'), { out: 'discarded 1\n' })
  t.equal((await runCommand(nodes, 'list')).out, '')
})

t.test('what is not understood changes nothing and exits 1 with the reason', async (t) => {
  const node = await openNode(t, 'EAST')
  await addLetters(node, 1)
  t.match(await runCommand([node], 'discard'), { code: 1, err: /say which letters to discard/ })
  t.match(await runCommand([node], 'replay', 'NORTH:1'), { code: 1, err: /no node NORTH; there are EAST/ })
  t.match(await runCommand([node], 'replay', '1'), { code: 1, err: /<node>:<id>/ })
  t.match(await runCommand([node], 'list', '--before', 'noon'), { code: 1, err: /ISO|Give a time/ })
  t.match(await runCommand([], 'list'), { code: 1, err: /DATABASE_URL/ })
  t.match(await runCommand([node], 'discard', '--all'), { code: 0, out: 'discarded 1\n' })
})
