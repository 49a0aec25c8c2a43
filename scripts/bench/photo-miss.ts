import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { rm, writeFile } from 'node:fs/promises'
import { delimiter, join, resolve } from 'node:path'
import { text } from 'node:stream/consumers'
import { sql } from 'kysely'
import { packId, type Id } from '#kernel/snowflake.ts'
import { createLogger } from '#platform/logger/logger.ts'
import { migrateNode } from '#platform/postgres/migrate.ts'
import { openPool } from '#platform/postgres/pool.ts'
import { openRouter } from '#platform/postgres/router.ts'
import { createShardMap } from '#platform/postgres/shard-map.ts'
import type { Database } from '#domain/database.ts'
import { findPhoto } from '#domain/photos/photos.queries.ts'
import type { StoredRendition } from '#domain/photos/photos.table.ts'
import { migrations } from '#migrations/migrations.ts'
import { removeEmbeddedPostgres, startEmbeddedPostgres } from '../stack/embedded-postgres.ts'
import { compareRounds, printRates, ratioBetween } from './rounds.ts'

/**
 * One photo by id that no cache has, the data layer alone: callers who each await one photo after another. The ceiling
 * is C: pgbench reading the same columns of the same rows by prepared statements. All on one server on this machine,
 * so what the client costs is taken from the server.
 */
const PHOTOS = 20_000
const CALLERS = 16
const CALLERS_MANY = 64
const RUN_SECONDS = 2
const PGBENCH_CONNECTIONS = 4
const PEER_CONNECTIONS = 4
const OUR_CONNECTIONS = 10
const FIRST_MS = Date.UTC(2026, 5, 1)
const SIDES = { thumb: 150, small: 320, medium: 640, large: 1_080 } as const
const COLUMNS = `id, account_id, status, caption, tags, original_key, original_bytes, media_type, width, height, blurhash,
  taken_at, renditions, verdict, verdict_detail, failure_code, failure_detail, published_id, fanned_out_at, created_at,
  updated_at`.replaceAll(/\s+/g, ' ')

const CEILING = `pgbench -c${PGBENCH_CONNECTIONS} -M prepared (ceiling)`
const OURS = `findPhoto, ${CALLERS} callers`
const PEER = `kysely on a pool of ${PEER_CONNECTIONS}, ${CALLERS} callers`

/** A program of PostgreSQL's: on PATH, or where Debian keeps it. */
function findPgbench(): string {
  const debian = ['18', '17', '16', '15'].map((major) => `/usr/lib/postgresql/${major}/bin`)
  const folder = [...(process.env['PATH'] ?? '').split(delimiter), ...debian].find((each) => existsSync(join(each, 'pgbench')))
  if (folder !== undefined) return join(folder, 'pgbench')
  throw new Error('There is no pgbench. Install it: apt-get install postgresql-contrib, or brew install postgresql.')
}

const idOf = (index: number): Id =>
  packId({ ms: FIRST_MS, shard: (index * 37) % 8_192, sequence: Math.floor(index / 8_192) })

function renditions(id: Id): StoredRendition[] {
  return Object.entries(SIDES).map(([name, width]) => ({
    name: name as keyof typeof SIDES,
    key: `media/${id}/0123456789abcdef0123456789abcdef/${name}.jpg`,
    width,
    height: Math.round(width * 0.75),
    format: 'jpeg',
  }))
}

const checkout = resolve(import.meta.dirname, '../..')
const directory = join(checkout, '.monogram', 'bench-photo-miss')
const pgbench = findPgbench()
await removeEmbeddedPostgres(checkout, directory)
const postgres = await startEmbeddedPostgres({ checkout, directory, databases: ['bench'], durable: true })
await using closing = new AsyncDisposableStack()
closing.defer(() => rm(directory, { recursive: true, force: true }))
closing.defer(() => removeEmbeddedPostgres(checkout, directory))

const url = postgres.url('bench')
const log = createLogger({ process: 'bench', level: 'warn' })
const peer = openPool<Database>({ url, max: PEER_CONNECTIONS, applicationName: 'bench' }, log)
closing.defer(() => peer.destroy())
await migrateNode(peer, migrations)
await createShardMap(peer, ['DATABASE_URL'])
const router = await openRouter<Database>(
  { nodes: [{ name: 'DATABASE_URL', url, preparedStatements: true }], poolMax: OUR_CONNECTIONS, applicationName: 'bench' },
  log,
)
closing.defer(() => router.close())

const ids = Array.from({ length: PHOTOS }, (_, index) => idOf(index))
for (let from = 0; from < PHOTOS; from += 1_000) {
  const rows = ids.slice(from, from + 1_000).map((id) => ({
    id,
    account_id: id,
    status: 'published' as const,
    caption: 'Morning light over the harbour, before the boats leave #harbour #morning',
    tags: ['harbour', 'morning'],
    original_key: `originals/${id}.jpg`,
    original_bytes: 3_750_000,
    media_type: 'image/jpeg',
    width: 4_000,
    height: 3_000,
    blurhash: 'LEHV6nWB2yk8pyo0adR*.7kCMdnj',
    renditions: JSON.stringify(renditions(id)),
    verdict: 'clean' as const,
    published_id: id,
    fanned_out_at: new Date(),
  }))
  await peer.insertInto('photos').values(rows).execute()
}
await sql`vacuum analyze`.execute(peer)

// pgbench draws numbers, not ids that exist: the n-th id is worked out as idOf does, which costs it no statement.
const [first = 0n] = ids
const script = join(directory, 'photo.sql')
await writeFile(
  script,
  [
    `\\set n random(0, ${PHOTOS - 1})`,
    `\\set id ${first} + ((:n * 37) % 8192) * 1024 + :n / 8192`,
    `select ${COLUMNS} from photos where id = :id;`,
    '',
  ].join('\n'),
)

async function ceiling(): Promise<number> {
  const args = ['-n', '-c', String(PGBENCH_CONNECTIONS), '-j', '1', '-M', 'prepared', '-T', String(RUN_SECONDS), '-f', script, url]
  const child = spawn(pgbench, args, { stdio: ['ignore', 'pipe', 'pipe'] })
  const [output, errors] = await Promise.all([text(child.stdout), text(child.stderr)])
  const rate = Number(/tps = ([\d.]+)/.exec(output)?.[1])
  if (!(rate > 0)) throw new Error(`pgbench said: ${errors}`)
  return rate
}

/** Photos a second that so many callers get, each asking for the next when it has one. */
async function callers(count: number, read: (id: Id) => Promise<{ readonly id: Id } | undefined>): Promise<number> {
  const startMs = performance.now()
  let photos = 0
  const caller = async (): Promise<void> => {
    for (; performance.now() - startMs < RUN_SECONDS * 1_000; photos++) {
      const id = idOf(Math.floor(Math.random() * PHOTOS))
      if ((await read(id))?.id !== id) throw new Error(`the photo ${id} was not found`)
    }
  }
  await Promise.all(Array.from({ length: count }, caller))
  return (photos / (performance.now() - startMs)) * 1_000
}

const built = (id: Id) => peer.selectFrom('photos').selectAll().where('id', '=', id).executeTakeFirst()

const valuesOf = (row: object | undefined) => Object.values(row ?? {}).map(String).join()
for (const id of [idOf(0), idOf(PHOTOS - 1)]) {
  if (valuesOf(await findPhoto(router, id)) !== valuesOf(await built(id))) throw new Error(`the photo ${id} differs`)
}
const rates = await compareRounds({
  [CEILING]: ceiling,
  [OURS]: () => callers(CALLERS, (id) => findPhoto(router, id)),
  [`findPhoto, ${CALLERS_MANY} callers`]: () => callers(CALLERS_MANY, (id) => findPhoto(router, id)),
  [PEER]: () => callers(CALLERS, built),
})
printRates('one photo, no cache, photos/s', rates)
const [toCeiling, toPeer] = [CEILING, PEER].map((other) => ratioBetween(rates, OURS, other).toFixed(2))
console.log(`${OURS}: ${toCeiling} of pgbench (aim 0.7), ${toPeer} x kysely (aim 2.5)`)
