import { chmod, chown, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { loadNodes } from '#platform/config/config.ts'
import type { Environment } from '#platform/config/environment.ts'
import { probeServer } from '#platform/postgres/probe-server.ts'
import { runCommand } from '../../../scripts/stack/run-command.ts'
import { temporaryDirectory } from '../../support/temporary-directory.ts'
import { runSql, type TestServer } from '../../support/tier-server.ts'
import { startTestTier } from '../../support/tier.ts'

/** A server as an add-on has it: encrypted connections only, with a certificate that it has signed itself. */

t.test('a server with a self-signed certificate', async (t) => {
  const directory = await temporaryDirectory(t)
  await chmod(directory, 0o755)
  const tier = await startTestTier(t, { ownServers: true })
  const server = tier.nodes[0]?.primary
  if (server === undefined) throw new Error('there is one')
  await t.rejects(probe(server.url, 'no-verify'), { message: /does not support SSL connections\. Set DATABASE_SSLMODE=disable/ })

  const certificate = await encrypt(server, directory)
  await t.rejects(probe(server.url), { message: /^DATABASE_URL cannot be used: .*no encryption\. It takes encrypted connections only: set DATABASE_SSLMODE/ })
  await t.rejects(probe(server.url, 'verify-full'), { message: /self-signed certificate.*\. Set DATABASE_SSLMODE=no-verify/ })
  await t.rejects(probe(`${server.url}?sslmode=require`), { name: 'ConfigError' })

  for (const url of [urlOf(server.url, 'no-verify'), urlOf(`${server.url}?sslrootcert=${certificate}`, 'verify-full')]) {
    t.match(await probeServer({ name: 'X', url }), { isPooled: false })
    t.same(await runSql(url, 'select ssl from pg_stat_ssl where pid = pg_backend_pid()'), [{ ssl: true }])
  }
  await server.stop()
})

function urlOf(url: string, mode?: string): string {
  const env: Environment = { DATABASE_URL: url, DATABASE_SSLMODE: mode }
  return loadNodes(env)[0]?.url ?? ''
}

async function probe(url: string, mode?: string): Promise<unknown> {
  return probeServer({ name: 'DATABASE_URL', url: urlOf(url, mode) })
}

/** Makes the server take encrypted connections only; gives the file of its certificate. */
async function encrypt(server: TestServer, directory: string): Promise<string> {
  const [certificate, key] = [join(directory, 'server.crt'), join(directory, 'server.key')]
  const subject = ['-subj', '/CN=127.0.0.1', '-addext', 'subjectAltName=IP:127.0.0.1']
  await runCommand('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2', ...subject, '-keyout', key, '-out', certificate], {})
  const [{ data } = { data: '' }] = await server.sql<{ data: string }>(`select current_setting('data_directory') as data`)
  const { uid, gid } = await stat(data)
  for (const file of [certificate, key]) await chown(file, uid, gid)
  await chmod(key, 0o600)
  await server.sql(`alter system set ssl_cert_file = '${certificate}'`)
  await server.sql(`alter system set ssl_key_file = '${key}'`)
  await server.sql('alter system set ssl = on')
  await server.stop()
  await writeFile(join(data, 'pg_hba.conf'), 'hostssl all all all scram-sha-256\n')
  await server.start()
  return certificate
}
