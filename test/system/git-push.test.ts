import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import t from 'tap'
import { freePort } from '../../scripts/stack/free-port.ts'
import { waitReady } from '../../scripts/stack/wait-ready.ts'
import { makePicture } from '../../scripts/pictures/make-picture.ts'
import { apiClient, type Photo } from '../support/api-client.ts'
import { CHECKOUT, copyCheckout } from '../support/checkout-copy.ts'
import { allGone, isRunning, startCommand } from '../support/command.ts'
import { createTestDatabase } from '../support/database.ts'
import { eventually } from '../support/eventually.ts'
import { temporaryDirectory } from '../support/temporary-directory.ts'
import { onTeardown } from '../support/teardown.ts'

const run = promisify(execFile)

/**
 * A deploy: `git push` to a bare repository whose hook (test/support/small-paas.sh) installs without development
 * packages, runs the release line and starts the Procfile's processes, with environment variables and Node alone.
 */
t.test('git push brings Monogram up on a host that knows only git, npm and the Procfile', async (t) => {
  const { url: databaseUrl } = await createTestDatabase(t, { migrated: false })
  const directory = await temporaryDirectory(t)
  const host = join(directory, 'monogram.git')
  const port = await freePort()

  await run('git', ['init', '--quiet', '--bare', '--initial-branch=main', host])
  await symlink(join(CHECKOUT, 'test/support/small-paas.sh'), join(host, 'hooks/post-receive'))
  const env = {
    DATABASE_URL: databaseUrl,
    DATABASE_POOL_MAX: '4',
    SECRET_KEY: randomBytes(32).toString('hex'),
    STORAGE_URL: pathToFileURL(join(directory, 'photos')).href,
    HOST: '127.0.0.1',
    PORT: String(port),
  }
  await writeFile(join(host, 'env'), Object.entries(env).map(([name, value]) => `${name}=${value}\n`).join(''))

  const source = join(directory, 'source')
  await mkdir(source)
  await copyCheckout(source)
  const git = (...args: string[]) => run('git', ['-c', 'user.name=test', '-c', 'user.email=test@example.com', ...args], { cwd: source })
  await git('init', '--quiet', '--initial-branch=main')
  await git('add', '--all')
  await git('commit', '--quiet', '--message=deploy')

  // The host's Node is the one that runs this test; nothing of this checkout's node_modules is on its PATH.
  const bin = join(directory, 'bin')
  await mkdir(bin)
  await symlink(process.execPath, join(bin, 'node'))
  const path = `${bin}:${(process.env.PATH ?? '').split(':').filter((part) => !part.includes('node_modules')).join(':')}`

  const push = startCommand(t, 'git', ['push', '--quiet', host, 'main'], { cwd: source, env: { ...process.env, PATH: path } })
  await push.ended
  // git does not tell how the hook ended, so its last word does.
  t.match(push.output(), /Deployed\s*$/, 'the hook came to its end')
  const pids = (await readFile(join(host, 'pids'), 'utf8')).trim().split('\n').map((line) => Number(line.split(' ')[0]))
  onTeardown(t, async () => {
    for (const pid of pids) if (await isRunning(pid)) process.kill(pid, 'SIGTERM')
    await allGone(pids)
  })
  t.equal(pids.length, 5, 'every process type of the Procfile')

  const url = `http://127.0.0.1:${port}`
  await waitReady(url, AbortSignal.timeout(60_000)).catch(async (error: unknown) => {
    t.comment(await readFile(join(host, 'log/web'), 'utf8'))
    throw error
  })
  const api = apiClient([url])
  const ada = await api.signUp('ada')
  const bela = await api.signUp('bela')
  await api.ok('PUT', `/v1/accounts/${ada.account.id}/follow`, { token: bela.token })
  const { id } = await api.upload(ada, await makePicture({ seed: 1, width: 640, height: 480 }))
  // Only so is it known that what every process type needs is among the packages of production.
  await eventually('the photo in the feed', async () => {
    const { items } = await api.ok<{ items: Photo[] }>('GET', '/v1/feed', { token: bela.token })
    return items.some((photo) => photo.id === id) ? true : undefined
  })
  t.same(await Promise.all(pids.map(isRunning)), pids.map(() => true), 'every process still runs')
})
