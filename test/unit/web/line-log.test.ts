import { Writable } from 'node:stream'
import { pino } from 'pino'
import t from 'tap'
import { lineLog } from '#platform/logger/line-log.ts'

t.test('a line is what pino itself would write, and those of one turn are written together', async (t) => {
  const writes: string[] = []
  const stream = new Writable({
    write(chunk: Buffer, _encoding, done) {
      writes.push(chunk.toString())
      done()
    },
  })
  const options = { base: { process: 'web', pid: 7 }, timestamp: pino.stdTimeFunctions.isoTime, formatters: { level: (level: string) => ({ level }) } }
  const log = pino(options, stream)
  const lines = lineLog(log, 'request')
  lines.write('"method":"GET","status":200')
  lines.write('"method":"PUT","status":204')
  t.same(writes, [])
  await new Promise((resolve) => setImmediate(resolve))
  t.equal(writes.length, 1)
  log.info({ method: 'GET', status: 200 }, 'request')

  const [first, , byPino] = writes.join('').split('\n')
  const withoutTime = (line = ''): string => line.replace(/"time":"[^"]+"/, '')
  t.equal(withoutTime(first), withoutTime(byPino))
  t.match(first, /"time":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"/)
  t.equal(lineLog(pino({ level: 'warn' }, stream), 'request').isEnabled, false)
})
