import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { text } from 'node:stream/consumers'
import { sql } from 'kysely'
import t, { type Test } from 'tap'
import { SHARD_COUNT, shardOf, type Shard } from '#kernel/snowflake.ts'
import { addDelta } from '#domain/counters/counters.queries.ts'
import type { Db } from '#domain/database.ts'
import { checkNewNode } from '#domain/shards/check-node.ts'
import { chooseShard } from '#domain/shards/choose-shard.ts'
import { FIRST, furnish, openMovingWorld, SECOND, type MovingWorld } from './moving-world.ts'
import { analyse, writeAndTell } from './statistics.ts'

interface Outcome {
  readonly code: number | null
  readonly output: string
  readonly complaints: string
}

/** @param urls in place of those of the world's nodes, by name */
async function shards({ config }: MovingWorld, args: readonly string[], urls: Readonly<Record<string, string>> = {}): Promise<Outcome> {
  const nodes = Object.fromEntries(config.nodes.map(({ name, url }) => [name, url]))
  const child = spawn(process.execPath, ['scripts/shards.ts', ...args], {
    env: { PATH: process.env.PATH, DATABASE_NODES: `${FIRST},${SECOND}`, ...nodes, ...urls },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const [output, complaints] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')])
  return { code: child.exitCode, output, complaints }
}

async function announce({ source }: MovingWorld, shard: Shard, from: string, to: string): Promise<void> {
  await sql`insert into shard_moves (shard, source, target) values (${shard}, ${from}, ${to})`.execute(source)
}

/** As if shards had left a node long enough ago for their rows to be deleted there. */
async function age(db: Db): Promise<void> {
  await sql`update shard_state set since = now() - interval '11 minutes'`.execute(db)
}

// Those that move shards wait twice until every process knows, and the others have the time.
t.test('the command shows, estimates, refuses, moves, goes on, calls off, cleans and removes', async (t) => {
  await Promise.all([moveByCount(t), resumeAndRemove(t), refuseReplication(t), callOff(t), showAndRefuse(t), showBalance(t)])
})

async function showAndRefuse(t: Test): Promise<void> {
  const world = await openMovingWorld(t)
  const person = await world.person()
  await furnish(world, person, 'mover')
  const shard = shardOf(person)
  const half = SHARD_COUNT / 2

  t.match(await shards(world, ['map']), { code: 0, output: new RegExp(`^version\\t\\d+\\n${FIRST}\\t${half}\\t0-${half - 1}\\n${SECOND}\\t${half}\\t${half}-${SHARD_COUNT - 1}\\nmoving\\t0\\t\\n$`) })
  t.match(await shards(world, ['move', String(shard), '--to', SECOND, '--dry-run']), { code: 0, output: /^shards\t1\nrows\t7\nMB\t\d+\npause of a shard, ms\tp50 50\t/ })
  const refused: [string[], string][] = [
    [['move', String(shard), '--to', SECOND, '--max-pause', '10'], `shards ${shard} would have to wait for more than 10 ms`],
    [['move', String(shard), '--to', 'THIRD_URL'], 'there is no node THIRD_URL'],
    [['move', '9000', '--to', SECOND], 'is not a logical shard'],
    [['move', '--from', FIRST, '--to', SECOND], 'either a list, or --from and --count'],
    [['move', '--from', FIRST, '--count', String(half + 1), '--to', SECOND], `there are ${half} shards on ${FIRST}`],
    [['move', '--from', 'THIRD_URL', '--count', '1', '--to', SECOND], 'there is no node THIRD_URL'],
    [['add-node', SECOND], 'has shards already'],
    [['remove-node', SECOND], `has ${half} shards`],
  ]
  for (const [args, complaints] of refused) t.match(await shards(world, args), { code: 1, complaints }, args.join(' '))
  t.same((await sql`select from shard_moves`.execute(world.source)).rows, [])
}

async function showBalance(t: Test): Promise<void> {
  const world = await openMovingWorld(t)
  await furnish(world, await world.person(), 'balanced')
  for (const db of world.dbs) await analyse(db)
  const state = { isOver: false }
  const counting = shards(world, ['balance', '--seconds', '1']).finally(() => (state.isOver = true))
  while (!state.isOver) await writeAndTell(world.source)
  const half = SHARD_COUNT / 2
  const { code, output } = await counting
  t.equal(code, 0)
  const [titles, first, second] = output.split('\n').map((line) => line.split('\t'))
  t.same(titles, ['node', 'shards', 'accounts', 'rows', 'MB', 'writes/s'])
  // The account, and what furnishes it, but for names that may be on the other node.
  t.same(first?.slice(0, 3), [FIRST, String(half), '1'])
  t.match(first?.[5], /^\d+\.\d$/)
  t.ok(Number(first?.[5]) > 0, 'writes were seen')
  t.same(second?.slice(0, 3), [SECOND, String(half), '0'])
  t.equal(second?.[5], '0.0')
  t.equal(Number(first?.[3]) + Number(second?.[3]), 12)
}

async function callOff(t: Test): Promise<void> {
  const world = await openMovingWorld(t)
  const [stays, goes] = [shardOf(await world.person()), shardOf(await world.person())]
  for (const shard of [stays, goes]) await announce(world, shard, FIRST, SECOND)
  await sql`insert into shard_state (shard, state, peer, move_id)
    select shard, 'departed', target, move_id from shard_moves where shard = ${goes}`.execute(world.source)
  t.match(await shards(world, ['status']), { code: 0, output: `announced\t2\n${stays}\t${FIRST} → ${SECOND}\n${goes}\t${FIRST} → ${SECOND}\n` })

  const away = { [SECOND]: 'postgres://nobody@127.0.0.1:1/none' }
  t.match(await shards(world, ['call-off'], away), {
    code: 2,
    output: new RegExp(`^stayed\\t${stays}\\tcalled off\\nunfinished\\t${goes}\\t.*ECONNREFUSED.*\\nstayed\\t1\\tarrived 0\\tunfinished 1\\n$`),
    complaints: 'run `resume` when its nodes are back',
  })
  t.same(await shards(world, ['call-off']), {
    code: 0,
    output: `arrived\t${goes}\thad departed already\nstayed\t0\tarrived 1\tunfinished 0\n`,
    complaints: '',
  })
  t.same(await shards(world, ['resume']), { code: 0, output: 'moved\t0\tstayed 0\tunfinished 0\n', complaints: '' }, 'nothing is left to go on with')
  await world.router.refresh()
  t.same([stays, goes].map((shard) => world.router.nodeOf(shard).name), [FIRST, SECOND])
}

async function moveByCount(t: Test): Promise<void> {
  const world = await openMovingWorld(t)
  const shard = shardOf(await world.person())
  await sql`update shard_map set node = ${SECOND} where shard > ${shard}`.execute(world.source)
  t.match(await shards(world, ['move', '--from', FIRST, '--count', '1', '--to', SECOND]), {
    code: 0,
    output: new RegExp(`^shards\\t1\\nrows\\t1\\n(.*\\n){2}moved\\t${shard}\\t1 rows\\tpaused \\d+ ms\\nmoved\\t1\\tstayed 0\\tunfinished 0\\npause, ms\\tp50 \\d+`),
    complaints: '',
  })
  t.match(await shards(world, ['status']), { code: 0, output: `announced\t0\nleft on\t${FIRST}\t1\t${shard}\nleft on\t${SECOND}\t0\t\n` })
  await world.router.refresh()
  t.equal(world.router.nodeOf(shard).name, SECOND)

  t.match(await shards(world, ['clean']), { code: 0, output: 'cleaned\t0\n' }, 'not yet')
  await age(world.source)
  t.match(await shards(world, ['clean']), { code: 0, output: 'cleaned\t1\n' })
  const accounts = await Promise.all(world.dbs.map(async (db) => (await sql`select from accounts`.execute(db)).rows.length))
  t.same(accounts, [0, 1])
}

async function resumeAndRemove(t: Test): Promise<void> {
  const world = await openMovingWorld(t)
  const person = await world.person({ node: 1 })
  const shard = shardOf(person)
  await world.router.write(shard, (trx) => addDelta(trx, person, 'followers', 1))
  await sql`update shard_map set node = ${FIRST} where shard <> ${shard}`.execute(world.source)
  await announce(world, shard, SECOND, FIRST)
  t.match(await shards(world, ['resume']), {
    code: 0,
    output: new RegExp(`^moved\\t${shard}\\t1 rows\\tpaused \\d+ ms\\nmoved\\t1\\tstayed 0\\tunfinished 0\\n`),
    complaints: '',
  })
  await world.router.refresh()
  t.equal(world.router.nodeOf(shard).name, FIRST)

  t.match(await shards(world, ['remove-node', SECOND]), { code: 1, output: '', complaints: `1 shards have left ${SECOND} less than 10 minutes ago` })
  await age(world.target)
  t.match(await shards(world, ['remove-node', SECOND]), {
    code: 0,
    output: `${SECOND}\tcounts of 1 accounts\t0 dead letters\tare on the other nodes\n${SECOND}\tis not needed`,
    complaints: '',
  })
  t.same((await sql`select from accounts`.execute(world.target)).rows, [])
}

async function refuseReplication(t: Test): Promise<void> {
  const world = await openMovingWorld(t)
  const shard = shardOf(await world.person())
  const outcome = await shards(world, ['move', String(shard), '--to', SECOND, '--via', 'replication'])
  t.match(outcome, {
    code: 2,
    output: new RegExp(`pause of a shard, ms\\tp50 250\\t.*\\nstayed\\t${shard}\\tReplication is not to be had: wal_level of ${FIRST} is replica\\. Set it to logical.*\\nmoved\\t0\\tstayed 1\\tunfinished 0\\n$`),
    complaints: '',
  })
  await world.router.refresh()
  t.equal(world.router.nodeOf(shard).name, FIRST)
  await world.router.write(shard, async () => {})
}

t.test('weights decide where new accounts go', async (t) => {
  const world = await openMovingWorld(t)
  t.match(await shards(world, ['weights', `${FIRST}=0`, `${SECOND}=50`]), { code: 0, output: `${FIRST}\t0\n${SECOND}\t50\n` })
  await world.router.refresh()
  const drawn = new Set(Array.from({ length: 50 }, () => world.router.nodeOf(chooseShard(world.router)).name))
  t.same([...drawn], [SECOND])
  t.match(await shards(world, ['weights', `${FIRST}=101`]), { code: 1, complaints: 'Give <node>=<0 to 100>' })
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
