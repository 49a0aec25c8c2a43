import { sql } from 'kysely'
import t, { type Test } from 'tap'
import { makePicture } from '../../scripts/pictures/make-picture.ts'
import { apiClient, PASSWORD, uploadForm, type Answer, type Person, type Photo, type Problem } from '../support/api-client.ts'
import { eventually } from '../support/eventually.ts'
import { startFaultProxy, type Fate, type FaultProxy } from '../support/fault-proxy.ts'
import { assertInvariants } from '../support/invariants.ts'
import { startMonogram } from '../support/monogram.ts'
import { openDatabase } from '../support/open-database.ts'

/**
 * Row 9 of the faults. One request after the other loses its database sessions at its first statement, its second, and
 * so on to its last, COMMITs included; each is sent again with its key. Whatever had become of it, there is one photo
 * for each key, one account for each key, nobody is told 500, and the process lives.
 */

/** How a session ends at a statement. */
const ENDS = [
  /** All sessions of web are terminated before the statement arrives. */
  'terminated',
  /** The server does it, COMMIT or not, and its answer is lost with the connection. */
  'unanswered',
] as const
type End = (typeof ENDS)[number]

/** First bytes of the messages that carry statements; what opens and closes a session begins otherwise. */
const STATEMENT_MESSAGES = new Set(Buffer.from('QPB'))
/** A request has far fewer. */
const STATEMENTS_MAX = 100
/** Of web itself, on no request's behalf. */
const POLL = 'shard_map_version'

t.test('sessions are lost at every statement', async (t) => {
  const monogram = await startMonogram(t, { counts: { 'web': 0, 'id-allocator': 0 } })
  const db = openDatabase(t, monogram.databaseUrl)
  const direct = new URL(monogram.databaseUrl)
  const proxy = await startFaultProxy(t, Number(direct.port))
  direct.port = String(proxy.port)
  const web = await monogram.start('web', { DATABASE_URL: direct.href })
  const api = apiClient([`http://127.0.0.1:${web.port ?? 0}`])
  const [author, reader] = [await api.signUp('author'), await api.signUp('reader')]
  await api.ok('PUT', `/v1/accounts/${author.account.id}/follow`, { token: reader.token })
  const picture = await makePicture({ seed: 1, width: 160, height: 120 })

  const terminate = async (): Promise<void> => {
    const sessions = sql`pg_stat_activity where datname = current_database() and application_name = 'monogram web'`
    const { rows } = await sql<{ pid: number }>`select pid, pg_terminate_backend(pid) from ${sessions}`.execute(db)
    await eventually('the end of all sessions', async () => {
      const left = await sql`select from ${sessions} and pid = any(${rows.map(({ pid }) => pid)})`.execute(db)
      return left.rows.length === 0 ? true : undefined
    })
  }
  /** Takes keys from requests that failed without being able to give them back, as time would. */
  const forget = async (): Promise<void> => {
    await sql`update idempotency_keys set locked_until = now() where status is null`.execute(db)
    await sql`update anonymous_idempotency_keys set locked_until = now() where status is null`.execute(db)
  }
  const sweep = (t: Test, send: (key: string) => Promise<Answer<unknown>>): Promise<unknown[]> =>
    loseEverySession(t, { proxy, terminate, forget, send })

  const photos: Photo[] = []
  await t.test('of an upload', async (t) => {
    const send = (key: string): Promise<Answer<unknown>> =>
      api.call('POST', '/v1/photos', { token: author.token, form: uploadForm(picture, key), headers: { 'idempotency-key': key } })
    photos.push(...(await sweep(t, send)) as Photo[])
    t.equal(new Set(photos.map(({ caption }) => caption)).size, photos.length, 'each key has its own photo')
  })

  await t.test('of a sign-up', async (t) => {
    const send = (key: string): Promise<Answer<unknown>> => {
      const json = { username: key.replace('-', '_'), email: `${key}@example.org`, password: PASSWORD }
      return api.call('POST', '/v1/accounts', { json, headers: { 'idempotency-key': key } })
    }
    const people = (await sweep(t, send)) as Person[]
    const accounts = await db.selectFrom('accounts').select(['id', 'username']).where('status', '=', 'active').execute()
    const told = [author, reader, ...people].map(({ account }) => ({ id: BigInt(account.id), username: account.username }))
    const byName = (a: { username: string }, b: { username: string }): number => (a.username < b.username ? -1 : 1)
    t.same(accounts.toSorted(byName), told.toSorted(byName), 'each account once, under the id that was told')
    const names = await db.selectFrom('usernames').select(['account_id as id', 'username']).execute()
    t.same(names.toSorted(byName), accounts.toSorted(byName), 'each with its name')
  })

  await assertInvariants(t, monogram, db, { photos: photos.map(({ id }) => id) })
})

interface Sweep {
  proxy: FaultProxy
  terminate: () => Promise<void>
  forget: () => Promise<void>
  /** Sends the request that this key stands for. */
  send: (key: string) => Promise<Answer<unknown>>
}

/** Sends request after request, each struck one statement later, until one has no statement left to strike; then the next end. */
async function loseEverySession(t: Test, { proxy, terminate, forget, send }: Sweep): Promise<unknown[]> {
  const made: unknown[] = []
  for (const end of ENDS) {
    const struck: string[] = []
    for (let number = 1; number <= STATEMENTS_MAX; number++) {
      const key = `${end}-${number}`
      const blow = strike(proxy, { end, number, terminate })
      const first = await send(key)
      proxy.set({ kind: 'none' })
      const statement = blow.statement()
      if (statement === undefined) {
        t.ok(first.status < 300, `${end}: after ${struck.length} statements there is none left`)
        made.push(first.body)
        break
      }
      struck.push(statement)
      if (first.status >= 300) t.match(first, { status: 503, body: { code: 'unavailable' } }, `${key}, ${statement}`)
      await forget()
      const again = await eventually(`a retry of ${key}`, async () => {
        const answer = await send(key)
        if (answer.status < 300) return answer.body
        const { code } = answer.body as Problem
        if (!['unavailable', 'idempotency_in_progress'].includes(code)) throw new Error(`${key}, ${statement}: ${JSON.stringify(answer.body)}`)
        return undefined
      })
      if (first.status < 300) t.same(idOf(again), idOf(first.body), `${key}, ${statement}: the same`)
      made.push(again)
    }
    t.ok(struck.length < STATEMENTS_MAX && struck.filter((statement) => statement === 'commit').length > 1, `${end}: ${struck.join(', ')}`)
  }
  return made
}

/** Ends what carries the statement of that number, counted from now, and no other. */
function strike(proxy: FaultProxy, { end, number, terminate }: { end: End; number: number; terminate: () => Promise<void> }): { statement(): string | undefined } {
  let seen = 0
  let statement: string | undefined
  proxy.set({
    kind: 'judged',
    async judge(request): Promise<Fate> {
      if (!STATEMENT_MESSAGES.has(request[0] ?? 0) || request.includes(POLL) || ++seen !== number) return 'passes'
      statement = wordsOf(request)
      if (end === 'unanswered') return 'unanswered'
      await terminate()
      return 'passes'
    },
  })
  return { statement: () => statement }
}

/** The first words of a statement, for people. */
function wordsOf(request: Buffer): string {
  return /[a-z]{4,}[ \w"]{0,24}/.exec(request.toString('latin1'))?.[0] ?? 'a statement'
}

function idOf(body: unknown): string {
  const made = body as Photo | Person
  return 'account' in made && 'token' in made ? made.account.id : made.id
}
