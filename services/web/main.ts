import { setTimeout as sleep } from 'node:timers/promises'
import { openContext } from '#domain/context.ts'
import { runProcess } from '#platform/lifecycle/run-process.ts'
import { buildApp } from './app.ts'
import { createWebContext } from './web-context.ts'

/** How long clients have to learn from `Connection: close` and /readyz that we leave, before we hang up on idle ones. */
const DRAIN_NOTICE_MS = 1_000
/** How long requests that have begun may go on: an upload on a slow line would outlast the process. */
const REQUESTS_END_MS = 20_000

runProcess(async () => {
  const context = await openContext('web', process.env, { readsReplicas: true })
  const app = await buildApp(createWebContext(context))
  const { host, port } = context.config.http
  await app.listen({ host, port })
  const address = app.server.address()
  context.log.info({ port: typeof address === 'object' ? (address?.port ?? port) : port }, 'ready')
  return {
    log: context.log,
    async close() {
      app.drain()
      await sleep(DRAIN_NOTICE_MS)
      const cut = setTimeout(() => app.server.closeAllConnections(), REQUESTS_END_MS)
      await app.close()
      clearTimeout(cut)
      await context.close()
    },
  }
})
