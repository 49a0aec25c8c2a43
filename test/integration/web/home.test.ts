import t from 'tap'
import { startWeb } from './web-app.ts'

const TYPES = [
  ['/', 'text/html; charset=utf-8'],
  ['/assets/home.css', 'text/css; charset=utf-8'],
  ['/assets/home.js', 'text/javascript; charset=utf-8'],
  ['/assets/icon.svg', 'image/svg+xml'],
] as const

t.test('the web page and its files are served, and nothing else may run beside them', async (t) => {
  const web = await startWeb(t)
  for (const [path, type] of TYPES) {
    const { status, headers } = await web.send('GET', path)
    t.match({ status, ...headers }, {
      'status': 200,
      'content-type': type,
      'content-security-policy':
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
      'x-content-type-options': 'nosniff',
      'cache-control': 'no-cache',
    }, path)
  }
  t.match(await web.send('HEAD', '/'), { status: 200, text: '' })
  t.match(await web.send('POST', '/'), { status: 405, body: { code: 'method_not_allowed' } })
})

t.test('whoever has a file already is not sent it again', async (t) => {
  const web = await startWeb(t)
  for (const [path] of TYPES) {
    const etag = String((await web.send('GET', path)).headers['etag'])
    const again = await web.send('GET', path, { headers: { 'if-none-match': `"other", W/${etag}` } })
    t.match(again, { status: 304, text: '', headers: { etag, 'cache-control': 'no-cache' } }, path)
    t.equal(again.headers['content-type'], undefined)
    t.equal((await web.send('GET', path, { headers: { 'if-none-match': '"other"' } })).status, 200)
  }
})

t.test('every file that the page names is there, and nothing is from elsewhere or inline', async (t) => {
  const web = await startWeb(t)
  const seen = new Set<string>()
  const open = ['/']
  for (let path = open.pop(); path !== undefined; path = open.pop()) {
    if (seen.has(path)) continue
    seen.add(path)
    const { status, text } = await web.send('GET', path)
    t.equal(status, 200, path)
    t.notMatch(text, /\binnerHTML\b|\beval\(|<style|<script(?![^>]* src=)|\s(style|on[a-z]+)="/, `${path} has nothing inline`)
    t.notMatch(text, /\b(src|href|from|url\(|import)\W+https?:/, `${path} asks nobody else`)
    for (const [, name] of text.matchAll(/(?:from '\.\/|(?:src|href)="\/assets\/)([\w.-]+)/g)) open.push(`/assets/${name ?? ''}`)
  }
  t.ok(seen.has('/assets/blurhash.js'), 'followed the imports')
})

t.test('pictures may come from the public address', async (t) => {
  const web = await startWeb(t, { env: { PUBLIC_URL: 'https://img.example.org/base' } })
  t.match((await web.send('GET', '/')).headers['content-security-policy'], /; img-src 'self' data: https:\/\/img\.example\.org; /)
})

t.test('the page is no part of the API', async (t) => {
  const web = await startWeb(t)
  const { text } = await web.send('GET', '/openapi.json')
  t.notMatch(text, '/assets/')
  t.notMatch(text, '"/":')
})
