import { openContext } from '#domain/context.ts'
import { QUEUES } from '#domain/queues.ts'
import { runProcess } from '#platform/lifecycle/run-process.ts'
import { screenPhoto } from './screen-photo.ts'
import { openScreens } from './screens.ts'

/** The classifier takes one picture at a time; a second one is read and hashed meanwhile. */
const PICTURES_IN_FLIGHT = 2
/** Covers the classifier's load at the start of a process. */
const SCREEN_DEADLINE_MS = 90_000

runProcess(async () => {
  const context = await openContext('safety-worker', process.env)
  const screens = openScreens(context)
  context.transport.consume({
    queue: QUEUES.safety,
    handlers: [screenPhoto(context, screens.all)],
    concurrency: PICTURES_IN_FLIGHT,
    deadlineMs: SCREEN_DEADLINE_MS,
  })
  context.log.info('ready')
  return {
    log: context.log,
    async close() {
      await context.close()
      await screens.close()
    },
  }
})
