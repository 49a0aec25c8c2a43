import t from 'tap'
import { problem } from '#kernel/errors.ts'
import { toProblem } from '../../../services/web/plugins/to-problem.ts'

const request = { headers: {} }

function failure(message: string, extra: object = {}): Error {
  return Object.assign(new Error(message), extra)
}

t.test('an error of the catalogue stays what it is', async (t) => {
  const told = problem('not_found', 'There is no such photo.')
  t.equal(toProblem(told, request), told)
})

t.test('a client that hangs up is not taken for a database that is away', async (t) => {
  t.equal(toProblem(failure('aborted', { code: 'ECONNRESET' }), request).code, 'invalid_request')
  t.equal(toProblem(failure('read ECONNRESET', { code: 'ECONNRESET' }), request).code, 'unavailable')
})

t.test('validation names the fields; a malformed path is an absent one', async (t) => {
  const validation = [
    { keyword: 'required', instancePath: '', params: { requiredProperties: ['a/b', 'c'] }, message: '', schemaPath: '' },
    { keyword: 'minLength', instancePath: '/d', params: { limit: 3 }, message: 'is short', schemaPath: '' },
  ]
  const told = toProblem(failure('x', { validation, validationContext: 'body' }), request)
  t.equal(told.code, 'invalid_request')
  t.strictSame(told.errors, [
    { path: '/body/a~1b', code: 'required', message: 'is required' },
    { path: '/body/c', code: 'required', message: 'is required' },
    { path: '/body/d', code: 'min_length', message: 'is short' },
  ])
  t.match(toProblem(failure('x', { validation, validationContext: 'querystring' }), request).errors?.[2], { path: '/query/d' })
  t.equal(toProblem(failure('x', { validation, validationContext: 'params' }), request).code, 'not_found')
})

t.test('what the framework, the parser of multipart and the database say', async (t) => {
  const multipart = { headers: { 'content-type': 'multipart/form-data; boundary=x' } }
  const cases = [
    [failure('too large', { statusCode: 413 }), 'payload_too_large'],
    [failure('type', { statusCode: 415 }), 'unsupported_media_type'],
    [failure('not multipart', { statusCode: 406 }), 'unsupported_media_type'],
    [failure('bad', { statusCode: 400 }), 'invalid_request'],
    [failure('bad url', { code: 'FST_ERR_BAD_URL', statusCode: 400 }), 'not_found'],
    [failure('long', { code: 'FST_ERR_MAX_PARAM_LENGTH', statusCode: 414 }), 'not_found'],
    [failure('invalid byte sequence', { code: '22021' }), 'invalid_request'],
    [failure('refused', { code: 'ECONNREFUSED', syscall: 'connect' }), 'unavailable'],
    [failure('no socket', { code: 'ENOENT', syscall: 'connect' }), 'unavailable'],
    [failure('no file', { code: 'ENOENT', syscall: 'open' }), 'internal'],
    [failure('shutting down', { code: '57P01' }), 'unavailable'],
    [failure('too many connections', { code: '53300' }), 'unavailable'],
    [failure('timeout exceeded when trying to connect'), 'unavailable'],
    [failure('Connection terminated unexpectedly'), 'unavailable'],
    [new AggregateError([failure('a', { code: 'ECONNREFUSED' }), failure('b', { code: 'ECONNREFUSED' })]), 'unavailable'],
    [failure('no such table', { code: '42P01' }), 'internal'],
    [failure('Unexpected end of form'), 'internal'],
    ['a string', 'internal'],
    [undefined, 'internal'],
  ] as const
  for (const [error, code] of cases) t.equal(toProblem(error, request).code, code, String(error))
  t.equal(toProblem(failure('Unexpected end of form'), multipart).code, 'invalid_request')
  t.ok(toProblem(failure('x', { code: '57P01' }), request).retryAfterSeconds)
  t.notMatch(toProblem(failure('secret path'), request).detail, /secret/, 'nothing of ours is told')
})
