import { openContext } from '#domain/context.ts'
import { QUEUES } from '#domain/queues.ts'
import { runProcess } from '#platform/lifecycle/run-process.ts'
import { renderPhoto } from './render-photo.ts'

/** Two pictures keep two cores busy; more in flight add memory and no speed. */
const PICTURES_IN_FLIGHT = 2
const RENDER_DEADLINE_MS = 60_000

runProcess(async () => {
  const context = await openContext('thumbnail-worker', process.env)
  context.transport.consume({
    queue: QUEUES.thumbnail,
    handlers: [renderPhoto(context)],
    concurrency: PICTURES_IN_FLIGHT,
    deadlineMs: RENDER_DEADLINE_MS,
  })
  context.log.info('ready')
  return { log: context.log, close: () => context.close() }
})
