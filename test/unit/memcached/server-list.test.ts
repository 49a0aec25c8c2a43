import t from 'tap'
import { parseServers } from '#platform/memcached/server-list.ts'

const fallback = { username: 'all', password: 'secret' }

t.test('servers by host and port, with credentials of their own or common ones', async (t) => {
  t.same(parseServers(['a.example', 'B.example:11212', 'memcached://u:p%w@c:1/', '[::1]:9'], fallback), [
    { name: 'a.example:11211', host: 'a.example', port: 11211, credentials: fallback },
    { name: 'b.example:11212', host: 'B.example', port: 11212, credentials: fallback },
    { name: 'c:1', host: 'c', port: 1, credentials: { username: 'u', password: 'p%w' } },
    { name: '[::1]:9', host: '::1', port: 9, credentials: fallback },
  ])
})

t.test('what is none is told by its place, never with its password', async (t) => {
  for (const bad of ['', 'a b', 'a:0', 'a:65536', 'a:x', 'redis://a', 'u:hush@', 'u@a', '::1', 'a/b']) {
    const told = parseServers(['fine', bad], null)
    t.match(told, /number 2 is none/, bad)
    t.notMatch(told, /hush/)
  }
  t.match(parseServers(['a', 'A:11211'], null), /names a:11211 twice/)
})
