import { sql } from 'kysely'
import t from 'tap'
import { shardOf, type Id } from '#kernel/snowflake.ts'
import type { NodeConfig } from '#platform/config/database.ts'
import { callOffMoves, moveShards, type MoveContext } from '#domain/shards/move-shards.ts'
import { eventually } from '../../support/eventually.ts'
import { startTestTier } from '../../support/tier.ts'
import { killAt } from './kill-mover.ts'
import { FIRST, furnish, openMovingWorld, rowsOf, SECOND, statesOf, type MovingWorld } from './moving-world.ts'

const via = 'replication'
/** So many take a while to copy. */
const FOLLOWS = 30_000

/** What is left of replication on either node, by name. */
async function leftovers({ dbs }: MovingWorld): Promise<string[]> {
  const names: string[] = []
  for (const db of dbs) {
    const { rows } = await sql<{ name: string }>`select pubname as name from pg_publication
      union all select subname from pg_subscription union all select slot_name from pg_replication_slots`.execute(db)
    names.push(...rows.map(({ name }) => name))
  }
  return names
}

t.test('shards move by logical replication', async (t) => {
  const tier = await startTestTier(t, {
    nodes: 2,
    ownServers: true,
    pgbouncer: true,
    settings: { wal_level: 'logical', max_replication_slots: 4 },
  })
  const [source, target] = tier.nodes.map(({ primary }) => primary)
  if (source === undefined || target === undefined) throw new Error('two nodes')
  const world = await openMovingWorld(t, { firstUrl: source.superuserUrl, secondUrl: target.superuserUrl })
  const { router, movers } = world
  const caption = (photoId: Id, text: string): Promise<unknown> =>
    router.write(shardOf(photoId), (trx) => trx.updateTable('photos').set({ caption: text }).where('id', '=', photoId).execute())

  await t.test('rows are there before the door is shut, and what is written meanwhile comes after them', async (t) => {
    const [person, other, third] = [await world.person(), await world.person(), await world.person()]
    await furnish(world, person, 'replicated')
    const shard = shardOf(person)
    const [kept, removed] = [await world.publish(person), await world.publish(person)]
    await world.follow(person, other)
    await world.follow(other, person)
    const staying = await rowsOf(world.source, [shardOf(other)])
    let writes = 0
    let hasArrived = false
    let writing: Promise<void> | undefined
    async function write(): Promise<void> {
      while (!hasArrived) {
        await world.follow(person, world.mint(shardOf(other)))
        writes++
      }
    }
    let before: Record<string, string[]> = {}
    const report = await moveShards(movers, { shards: [shard], to: SECOND, via }, {
      async step(step) {
        if (step === 'expected') writing = write()
        if (step === 'copied') {
          await caption(kept.photoId, 'as replicated')
          await world.unfollow(person, other)
          await world.follow(person, third)
          await router.write(shard, (trx) => trx.deleteFrom('photos').where('id', '=', removed.photoId).execute())
          await eventually('the target has what was written', async () => {
            const { rows } = await sql<{ caption: string }>`select caption from photos
              where id in (${kept.photoId}, ${removed.photoId})`.execute(world.target)
            return rows.length === 1 && rows[0]?.caption === 'as replicated' ? true : undefined
          })
          // What is lost on the target is missed behind the door.
          await sql`delete from photos where id = ${kept.photoId}`.execute(world.target)
        }
        if (step === 'verified') before = await rowsOf(world.source, [shard])
        if (step === 'arrived') hasArrived = true
      },
    })
    await writing
    t.same([report.stayed, report.unfinished], [[], []])
    const after = await rowsOf(world.target, [shard])
    t.same({ ...after, follows: [] }, { ...before, follows: [] })
    t.equal(after.photos?.length, 1)
    t.match(after.photos?.[0], 'as replicated')
    t.equal(after.follows?.length, writes + 1, 'every follow that was answered, and the third')
    t.same((before.follows ?? []).filter((row) => after.follows?.includes(row) !== true), [])
    t.same(await rowsOf(world.source, [shardOf(other)]), staying)
    t.equal((await sql`select from follows where follower_id = ${other}`.execute(world.target)).rows.length, 0)
    t.same(await leftovers(world), [])
  })

  for (const [step, goesOnVia] of [['copied', 'copy'], ['departed', via]] as const) {
    await t.test(`killed when it has ${step}, and gone on with via ${goesOnVia}`, async (t) => {
      const person = await world.person()
      const { photoId } = await world.publish(person)
      await world.follow(person, photoId)
      const shard = shardOf(person)
      await killAt(world, shard, step, via)
      t.not((await leftovers(world)).length, 0)
      await router.refresh()
      await caption(photoId, 'while nobody moves it')
      const report = await moveShards(movers, { shards: [], to: SECOND, via: goesOnVia })
      t.same([report.stayed, report.unfinished], [[], []])
      const rows = await rowsOf(world.target, [shard])
      t.match(rows.photos, [/while nobody moves it/])
      t.equal(rows.follows?.length, 1)
      t.same(await leftovers(world), [])
    })
  }

  await t.test('killed and called off, it leaves nothing', async (t) => {
    const person = await world.person()
    const { photoId } = await world.publish(person)
    await world.follow(person, photoId)
    await killAt(world, shardOf(person), 'copied', via)
    // As if somebody had been in a hurry.
    await source.sql('select pg_terminate_backend(active_pid) from pg_replication_slots')
    t.match(await callOffMoves(movers), { stayed: [{ reason: 'called off' }], unfinished: [] })
    t.same(await leftovers(world), [])
    await router.refresh()
    await caption(photoId, 'at home')
    t.equal((await sql`select from photos where id = ${photoId}`.execute(world.target)).rows.length, 0)
    t.equal((await sql`select from follows where follower_id = ${person}`.execute(world.target)).rows.length, 0)
  })

  for (const [role, victim] of [['target', target], ['source', source]] as const) {
    for (const end of ['gone on with', 'called off'] as const) {
      await t.test(`the ${role} is killed in the middle of the copy, and the move is ${end}`, async (t) => {
        const person = await world.person()
        const { photoId } = await world.publish(person)
        const shard = shardOf(person)
        await sql`insert into follows (follower_id, followee_id, id, backfilled_at)
          select ${person}, n, n, now() from generate_series(1, ${FOLLOWS}) as n`.execute(world.source)
        let isDead = false
        async function dieWhileCopying(): Promise<void> {
          await router.refresh().catch(() => undefined)
          const { rows } = await sql`select from pg_subscription_rel where srsubstate = 'd'`.execute(world.target).catch(() => ({ rows: [] }))
          if (isDead || rows.length === 0) return
          isDead = true
          await victim.kill()
        }
        const moving = moveShards({ ...movers, sleep: dieWhileCopying }, { shards: [shard], to: SECOND, via })
        // The source is the directory, too, with which the command is lost.
        if (role === 'source') await t.rejects(moving)
        else {
          const { moved, stayed, unfinished } = await moving
          t.match([moved, stayed, unfinished], [[], [], [{ shard }]])
          t.same(await source.sql('select from pg_replication_slots'), [], 'the source does not keep its log for who is away')
          await caption(photoId, 'while nobody moves it')
        }
        t.ok(isDead)
        await victim.start()
        await caption(photoId, 'when it is back')

        const left = end === 'called off' ? await callOffMoves(movers) : await moveShards(movers, { shards: [], to: SECOND, via })
        t.same([left.stayed.map((stayed) => stayed.shard), left.unfinished], [end === 'called off' ? [shard] : [], []])
        t.same(await leftovers(world), [])
        await router.refresh()
        await caption(photoId, 'after all')
        const [home, away] = await Promise.all([source, target].map(async (node) => {
          const [row] = await node.sql<{ photos: number; follows: number }>(`select
            (select count(*)::int from photos where id = $1 and caption = 'after all') as photos,
            (select count(*)::int from follows where follower_id = $2) as follows`, [photoId, person])
          return row
        }))
        const all = { photos: 1, follows: FOLLOWS }
        if (end === 'called off') t.same([home, away], [all, { photos: 0, follows: 0 }])
        else t.same(away, all)
      })
    }
  }

  await t.test('a shard stays where servers do not allow it, and it is said why', async (t) => {
    const shard = shardOf(await world.person())
    const reasonWith = async (context: MoveContext): Promise<string | undefined> => {
      const report = await moveShards(context, { shards: [shard], to: SECOND, via })
      t.same([report.moved, report.unfinished, await leftovers(world)], [[], [], []])
      return report.stayed[0]?.reason
    }
    const directly = (urls: Record<string, string | undefined>): MoveContext => {
      const nodes = movers.config.nodes.map((node): NodeConfig => ({ ...node, directUrl: urls[node.name] ?? node.url }))
      return { ...movers, config: { nodes } }
    }
    t.match(await reasonWith(directly({ [FIRST]: tier.pgbouncer?.url(FIRST) })), /the URL of DATABASE_URL leads to a pooler\. .*DATABASE_URL_DIRECT/)
    t.match(await reasonWith(directly({ [FIRST]: source.url })), /our role on DATABASE_URL may not replicate\. .*ALTER ROLE/)
    t.match(await reasonWith(directly({ [SECOND]: target.url })), /(only a superuser may subscribe on SECOND_URL|our role may not subscribe on SECOND_URL)/)
    const slots = ['one', 'two']
    for (const slot of slots) await source.sql('select pg_create_physical_replication_slot($1)', [slot])
    const report = await moveShards(movers, { shards: [shard], to: SECOND, via })
    t.match(report.stayed[0]?.reason, /DATABASE_URL has 2 free replication slots of the 3 it takes\. .*max_replication_slots/)
    for (const slot of slots) await source.sql('select pg_drop_replication_slot($1)', [slot])
    await router.write(shard, async () => {})
    t.equal((await statesOf(world.source))[shard], undefined)
  })
})

t.test('without wal_level=logical it is refused', async (t) => {
  const world = await openMovingWorld(t)
  const shard = shardOf(await world.person())
  const report = await moveShards(world.movers, { shards: [shard], to: SECOND, via })
  t.match(report.stayed, [{ shard, reason: /wal_level of DATABASE_URL is replica\. Set it to logical/ }])
})
