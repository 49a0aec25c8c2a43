import { sql } from 'kysely'
import type { Test } from 'tap'
import type { Db } from '#domain/database.ts'
import { makePicture } from '../../scripts/pictures/make-picture.ts'
import { apiClient, uploadForm, type ApiClient, type Person, type Photo } from '../support/api-client.ts'
import { eventually } from '../support/eventually.ts'
import { assertInvariants, type Expectation } from '../support/invariants.ts'
import { startMonogram, type Monogram, type MonogramOptions } from '../support/monogram.ts'
import { openDatabase } from '../support/open-database.ts'
import { startTestBroker, type TestBroker, type TestVhost } from '../support/rabbitmq.ts'

/** A whole system on a broker, with an author and followers. */
export interface BrokerWorld {
  server: TestBroker
  /** What of it is ours. */
  vhost: TestVhost
  monogram: Monogram
  db: Db
  api: ApiClient
  /** Uploads pictures one after the other; gives the ids, and how long the slowest answer took. */
  upload: (count: number) => Promise<{ ids: string[]; slowestMs: number }>
  /** What /readyz says: its status code, and the broker's. */
  readiness: () => Promise<{ code: number; broker: string | undefined }>
  /** Waits until every photo has come to its end, then checks the invariants. */
  settled: (ids: readonly string[], expected?: Omit<Expectation, 'photos'>) => Promise<void>
}

const FOLLOWERS = 4

/** @param env variables for every process, beside the broker's */
export async function startBrokerWorld(t: Test, env: MonogramOptions['env'] = {}): Promise<BrokerWorld> {
  const server = await startTestBroker(t)
  const vhost = await server.vhost()
  const monogram = await startMonogram(t, { env: { AMQP_URL: vhost.url, ...env } })
  const db = openDatabase(t, monogram.databaseUrl)
  const api = apiClient(monogram.urls)
  const author = await api.signUp('author')
  for (let i = 0; i < FOLLOWERS; i++) {
    const reader: Person = await api.signUp(`reader_${i}`)
    await api.ok('PUT', `/v1/accounts/${author.account.id}/follow`, { token: reader.token })
  }
  const picture = await makePicture({ seed: 1, width: 640, height: 480 })
  return {
    server,
    vhost,
    monogram,
    db,
    api,
    async upload(count) {
      const ids: string[] = []
      let slowestMs = 0
      for (let i = 0; i < count; i++) {
        const startMs = performance.now()
        const { status, body } = await api.call<Photo>('POST', '/v1/photos', { token: author.token, form: uploadForm(picture) })
        slowestMs = Math.max(slowestMs, performance.now() - startMs)
        t.equal(status, 202)
        ids.push(body.id)
      }
      return { ids, slowestMs }
    },
    async readiness() {
      const { status, body } = await api.call<{ components: { kind: string; status: string }[] }>('GET', '/readyz')
      return { code: status, broker: body.components.find(({ kind }) => kind === 'rabbitmq')?.status }
    },
    async settled(ids, expected = {}) {
      const fannedOut = ids.length - (expected.failed?.length ?? 0)
      await eventually('every photo published and fanned out', async () => {
        const { rows } = await sql<{ n: number }>`select count(*)::int as n from photos where fanned_out_at is not null`.execute(db)
        return rows[0]?.n === fannedOut ? true : undefined
      })
      await assertInvariants(t, monogram, db, { photos: ids, ...expected })
    },
  }
}
