import { randomBytes } from 'node:crypto'
import { pathToFileURL } from 'node:url'
import type { FastifyInstance } from 'fastify'
import { sql } from 'kysely'
import { pino } from 'pino'
import type { Test } from 'tap'
import { openContext } from '#domain/context.ts'
import { openPool } from '#platform/postgres/pool.ts'
import { buildApp } from '../../../services/web/app.ts'
import { createWebContext, type WebContext } from '../../../services/web/web-context.ts'
import { createTestDatabase } from '../../support/database.ts'
import { temporaryDirectory } from '../../support/temporary-directory.ts'

const PASSWORD = 'correct horse battery'

/** An answer as tests look at it; `body` is what the JSON says, to be checked by the test. */
export interface Answer {
  readonly status: number
  readonly headers: Record<string, unknown>
  readonly text: string
  readonly body: Json
}

/** Parsed JSON whose fields a test reaches for without ceremony; a wrong one is undefined and fails the assertion. */
export type Json = { readonly [field: string]: Json } & readonly Json[] & string

export interface Person {
  readonly id: string
  readonly username: string
  readonly token: string
}

/** The web service on a database of this test's own, without a socket. */
export interface TestWeb {
  readonly app: FastifyInstance
  readonly context: WebContext
  /** Sends a request; a person's token, if one is given, and JSON, if there is a payload. */
  send(method: string, url: string, options?: SendOptions): Promise<Answer>
  /** Signs somebody up. */
  person(username: string): Promise<Person>
}

export interface SendOptions {
  readonly as?: Pick<Person, 'token'>
  readonly body?: unknown
  readonly headers?: Record<string, string>
}

export interface WebOptions {
  readonly env?: Record<string, string>
  readonly overrides?: Partial<WebContext>
  /** Half of the logical shards on a second node. */
  readonly twoNodes?: boolean
  /** A migrated database that others use too; without it, one of the test's own. */
  readonly databaseUrl?: string
}

/** Starts the service; all is closed at teardown. */
export async function startWeb(t: Test, options: WebOptions = {}): Promise<TestWeb> {
  const url = options.databaseUrl ?? (await createTestDatabase(t)).url
  const opened = await openContext('web', {
    DATABASE_URL: url,
    ...(options.twoNodes === true && (await addNode(t, url))),
    STORAGE_URL: pathToFileURL(await temporaryDirectory(t)).href,
    SECRET_KEY: randomBytes(32).toString('hex'),
    LOG_LEVEL: 'silent',
    ...options.env,
  }, { readsReplicas: true })
  t.teardown(() => opened.close())
  const context = createWebContext({ ...opened, ...options.overrides }, options.overrides)
  const app = await buildApp(context)
  t.teardown(() => app.close())

  const send: TestWeb['send'] = async (method, path, { as, body, headers } = {}) => {
    const response = await app.inject({
      method,
      url: path,
      headers: { ...(as !== undefined && { authorization: `Bearer ${as.token}` }), ...headers },
      ...(body !== undefined && { payload: body as object }),
    })
    const json = String(response.headers['content-type']).includes('json') && response.body !== ''
    return {
      status: response.statusCode,
      headers: response.headers,
      text: response.body,
      body: (json ? JSON.parse(response.body) : {}) as Json,
    }
  }
  return {
    app,
    context,
    send,
    async person(username) {
      const { status, text, body } = await send('POST', '/v1/accounts', { body: { username, password: PASSWORD } })
      if (status !== 201) throw new Error(`signing ${username} up gave ${status}: ${text}`)
      return { id: body.account?.id ?? '', username, token: body.token ?? '' }
    },
  }
}

async function addNode(t: Test, directoryUrl: string): Promise<Record<string, string>> {
  const { url } = await createTestDatabase(t)
  const directory = openPool({ url: directoryUrl, max: 1, applicationName: 'test' }, pino({ level: 'silent' }))
  await sql`update shard_map set node = 'SECOND_URL' where shard % 2 = 1`.execute(directory)
  await directory.destroy()
  return { SECOND_URL: url, DATABASE_NODES: 'DATABASE_URL,SECOND_URL' }
}
