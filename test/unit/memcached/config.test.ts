import t from 'tap'
import { loadConfig } from '#platform/config/config.ts'
import type { Environment } from '#platform/config/environment.ts'

const BASE = {
  DATABASE_URL: 'postgres://localhost/monogram',
  STORAGE_URL: 'file:///var/lib/monogram',
  SECRET_KEY: 'x'.repeat(32),
}

const cacheOf = (env: Environment) => loadConfig({ ...BASE, ...env }).cache

function complaint(env: Environment): string {
  try {
    cacheOf(env)
    return 'none'
  } catch (error) {
    return String(error)
  }
}

t.test('without servers the lever is off', async (t) => {
  t.equal(cacheOf({}), null)
  t.equal(cacheOf({ MEMCACHE_SERVERS: ' ', MEMCACHIER_USERNAME: 'u', MEMCACHIER_PASSWORD: 'p' }), null)
})

t.test('servers by either name, those set by people first', async (t) => {
  t.match(cacheOf({ MEMCACHIER_SERVERS: 'a:1,b:2' }), { servers: [{ name: 'a:1' }, { name: 'b:2' }], nextServers: [] })
  t.match(cacheOf({ MEMCACHIER_SERVERS: 'a:1', MEMCACHE_SERVERS: 'c' }), { servers: [{ name: 'c:11211' }] })
  t.match(cacheOf({ MEMCACHE_SERVERS: 'a', MEMCACHE_SERVERS_NEXT: 'a,b', CACHE_ATTACH_SECONDS: '0' }), {
    nextServers: [{ name: 'a:11211' }, { name: 'b:11211' }],
    attachMs: 0,
  })
})

t.test('credentials of Memcachier, of the entry, and of people', async (t) => {
  const memcachier = { MEMCACHIER_SERVERS: 'a,x:y@b', MEMCACHIER_USERNAME: 'u', MEMCACHIER_PASSWORD: 'p' }
  t.match(cacheOf(memcachier), {
    servers: [{ credentials: { username: 'u', password: 'p' } }, { credentials: { username: 'x', password: 'y' } }],
  })
  t.match(cacheOf({ ...memcachier, MEMCACHE_USERNAME: 'me', MEMCACHE_PASSWORD: 'mine' }), {
    servers: [{ credentials: { username: 'me', password: 'mine' } }, { credentials: { username: 'x' } }],
  })
})

t.test('what is wrong is named, and no password is told', async (t) => {
  const wrong: [Environment, RegExp][] = [
    [{ MEMCACHE_SERVERS: 'a, http://b' }, /MEMCACHE_SERVERS must list .* number 2/],
    [{ MEMCACHIER_SERVERS: 'u:hush@' }, /MEMCACHIER_SERVERS must list/],
    [{ MEMCACHE_SERVERS: 'a', MEMCACHE_SERVERS_NEXT: 'b,b' }, /MEMCACHE_SERVERS_NEXT names b:11211 twice/],
    [{ MEMCACHE_SERVERS_NEXT: 'b' }, /MEMCACHE_SERVERS_NEXT needs/],
    [{ MEMCACHE_SERVERS: 'a', MEMCACHE_USERNAME: 'u' }, /MEMCACHE_PASSWORD is required/],
    [{ MEMCACHE_SERVERS: 'a', MEMCACHIER_PASSWORD: 'hush' }, /MEMCACHIER_USERNAME is required/],
    [{ MEMCACHE_SERVERS: 'a', CACHE_ATTACH_SECONDS: '-1' }, /CACHE_ATTACH_SECONDS/],
  ]
  for (const [env, expected] of wrong) {
    t.match(complaint(env), expected)
    t.notMatch(complaint(env), /hush/)
  }
})
