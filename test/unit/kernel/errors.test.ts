import t from 'tap'
import { ERRORS, problem, ProblemError } from '#kernel/errors.ts'

t.test('a problem carries its catalogue entry', async (t) => {
  const cause = new Error('lease expired')
  const error = problem('ids_unavailable', 'No lane is free.', { retryAfterSeconds: 3, cause })
  t.type(error, ProblemError)
  t.match(error, { code: 'ids_unavailable', status: 503, title: ERRORS.ids_unavailable.title, detail: 'No lane is free.', retryAfterSeconds: 3, cause })
  t.equal(error.message, 'No lane is free.')
  t.equal(error.errors, undefined)
})

t.test('every code is snake_case and every status an error', async (t) => {
  for (const [code, { status, title }] of Object.entries(ERRORS)) {
    t.match(code, /^[a-z]+(_[a-z]+)*$/)
    t.ok(status >= 400 && status < 600 && title.length > 0, code)
  }
})
