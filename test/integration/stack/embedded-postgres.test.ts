import { chmod, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import pg from 'pg'
import t, { type Test } from 'tap'
import { removeEmbeddedPostgres, startEmbeddedPostgres } from '../../../scripts/stack/embedded-postgres.ts'
import type { PostgresServer } from '../../../scripts/stack/postgres-server.ts'
import { allGone } from '../../support/command.ts'
import { CHECKOUT } from '../../support/checkout-copy.ts'
import { temporaryDirectory } from '../../support/temporary-directory.ts'
import { onTeardown } from '../../support/teardown.ts'

const DATABASE = 'example'

async function placeFor(t: Test): Promise<string> {
  const directory = await temporaryDirectory(t)
  // Run by root, PostgreSQL is another user, who has to be able to enter.
  await chmod(directory, 0o755)
  onTeardown(t, () => removeEmbeddedPostgres(CHECKOUT, directory))
  return directory
}

function start(directory: string): Promise<PostgresServer> {
  return startEmbeddedPostgres({ checkout: CHECKOUT, directory, databases: [DATABASE], durable: true })
}

async function query(server: PostgresServer, text: string): Promise<unknown[]> {
  const client = new pg.Client({ connectionString: server.url(DATABASE) })
  await client.connect()
  return client.query<unknown[]>({ text, rowMode: 'array' }).then(({ rows }) => rows.flat()).finally(() => client.end())
}

async function postmasterPid(server: PostgresServer): Promise<number> {
  const [pid = ''] = (await readFile(join(server.directory, 'postmaster.pid'), 'utf8')).split('\n')
  return Number(pid)
}

t.test('keeps port, password and data from one start to the next', async (t) => {
  const directory = await placeFor(t)
  const first = await start(directory)
  await query(first, 'create table kept as select 1 as one')
  await first.stop()
  await first.stop()
  const second = await start(directory)
  t.equal(second.url(DATABASE), first.url(DATABASE))
  t.same(await query(second, 'select one from kept'), [1])
  t.same(await query(second, 'select rolsuper from pg_roles where rolname = current_user'), [false])
})

t.test('asks for the password', async (t) => {
  const server = await start(await placeFor(t))
  const url = new URL(server.url(DATABASE))
  url.password = 'guess'
  await t.rejects(new pg.Client({ connectionString: url.href }).connect(), { code: '28P01' })
})

t.test('a server that still runs is used as it is', async (t) => {
  const directory = await placeFor(t)
  const first = await start(directory)
  const pid = await postmasterPid(first)
  const second = await start(directory)
  t.equal(await postmasterPid(second), pid)
  t.equal(second.url(DATABASE), first.url(DATABASE))
})

t.test('starts after a kill -9, also when its process number now belongs to another program', async (t) => {
  const directory = await placeFor(t)
  const first = await start(directory)
  await query(first, 'create table kept as select 1 as one')
  const pid = await postmasterPid(first)
  process.kill(pid, 'SIGKILL')
  await allGone([pid])
  const file = join(first.directory, 'postmaster.pid')
  await writeFile(file, (await readFile(file, 'utf8')).replace(String(pid), String(process.pid)))
  const second = await start(directory)
  t.same(await query(second, 'select one from kept'), [1])
})

t.test('data directories that were cut short while being made are made anew', async (t) => {
  const directory = await placeFor(t)
  const first = await start(directory)
  await first.stop()
  await rm(first.directory, { recursive: true })
  await writeFile(`${first.directory}.draft`, 'half a directory')
  const second = await start(directory)
  t.same(await query(second, 'select 1'), [1])
})
