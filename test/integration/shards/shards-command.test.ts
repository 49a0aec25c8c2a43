import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { text } from 'node:stream/consumers'
import { sql } from 'kysely'
import t from 'tap'
import { SHARD_COUNT, shardOf } from '#kernel/snowflake.ts'
import { checkNewNode } from '#domain/shards/check-node.ts'
import { chooseShard } from '#domain/shards/choose-shard.ts'
import { FIRST, furnish, openMovingWorld, SECOND, type MovingWorld } from './moving-world.ts'

interface Outcome {
  readonly code: number | null
  readonly output: string
  readonly complaints: string
}

async function shards({ config }: MovingWorld, ...args: string[]): Promise<Outcome> {
  const urls = Object.fromEntries(config.nodes.map(({ name, url }) => [name, url]))
  const child = spawn(process.execPath, ['scripts/shards.ts', ...args], {
    env: { PATH: process.env.PATH, DATABASE_NODES: `${FIRST},${SECOND}`, ...urls },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const [output, complaints] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')])
  return { code: child.exitCode, output, complaints }
}

t.test('the command shows, estimates, moves and refuses', async (t) => {
  const world = await openMovingWorld(t)
  const person = await world.person()
  await furnish(world, person, 'mover')
  const shard = shardOf(person)
  const half = SHARD_COUNT / 2

  t.match(await shards(world, 'map'), { code: 0, output: new RegExp(`^version\\t\\d+\\n${FIRST}\\t${half}\\t0-${half - 1}\\n${SECOND}\\t${half}\\t${half}-${SHARD_COUNT - 1}\\nmoving\\t0\\t\\n$`) })
  t.match(await shards(world, 'move', String(shard), '--to', SECOND, '--dry-run'), { code: 0, output: /^shards\t1\nrows\t7\nMB\t\d+\npause of a shard, ms\tp50 50\t/ })
  t.match(await shards(world, 'move', String(shard), '--to', SECOND, '--max-pause', '10'), { code: 1, complaints: `shards ${shard} would have to wait for more than 10 ms` })
  t.match(await shards(world, 'move', String(shard), '--to', 'THIRD_URL'), { code: 1, complaints: 'there is no node THIRD_URL' })
  t.match(await shards(world, 'move', '9000', '--to', SECOND), { code: 1, complaints: 'is not a logical shard' })
  t.match(await shards(world, 'add-node', SECOND), { code: 1, complaints: 'has shards already' })
  t.match(await shards(world, 'move', String(shard), '--to', SECOND), { code: 0, output: new RegExp(`moved\\t${shard}\\t7 rows\\tpaused \\d+ ms\\nmoved\\t1\\tstayed 0\\tunfinished 0\\npause, ms\\tp50 \\d+`) })
  t.match(await shards(world, 'status'), { code: 0, output: `left on\t${FIRST}\t1\t${shard}` })
  await world.router.refresh()
  t.equal(world.router.nodeOf(shard).name, SECOND)
})

t.test('weights decide where new accounts go', async (t) => {
  const world = await openMovingWorld(t)
  t.match(await shards(world, 'weights', `${FIRST}=0`, `${SECOND}=50`), { code: 0, output: `${FIRST}\t0\n${SECOND}\t50\n` })
  await world.router.refresh()
  const drawn = new Set(Array.from({ length: 50 }, () => world.router.nodeOf(chooseShard(world.router)).name))
  t.same([...drawn], [SECOND])
  t.match(await shards(world, 'weights', `${FIRST}=101`), { code: 1, complaints: 'Give <node>=<0 to 100>' })
})

t.test('a new node is looked at before shards come to it', async (t) => {
  const world = await openMovingWorld(t)
  const [first, second] = world.router.nodes
  if (first === undefined || second === undefined) throw new Error('two nodes')
  // A database of a test begins as a directory.
  await t.rejects(checkNewNode(second), /has a shard map of its own/)
  await sql`delete from shard_map`.execute(world.target)
  await checkNewNode(second)
  await t.rejects(checkNewNode(first), /has a shard map of its own/)
  await world.person({ node: 1 })
  await t.rejects(checkNewNode(second), /SECOND_URL has rows in accounts/)
})
