import { openContext } from '#domain/context.ts'
import { QUEUES } from '#domain/queues.ts'
import { createHouseKeeper } from '#platform/lifecycle/house-keeper.ts'
import { runProcess } from '#platform/lifecycle/run-process.ts'
import { queueMetrics } from '#platform/metrics/queue-metrics.ts'
import { askRebuilds } from './ask-rebuilds.ts'
import { backfillFeed } from './backfill-feed.ts'
import { chores } from './chores.ts'
import { fanOutPhoto } from './fan-out-photo.ts'
import { purgePhoto } from './purge-photo.ts'
import { rebuildFeed } from './rebuild-feed.ts'

/** Jobs at once. Each holds one connection per node at a time; user-visible work has more of them than bulk work. */
const FAN_OUTS_AT_ONCE = 4
const BULK_AT_ONCE = 2
/** What runs longer goes on at its next attempt: a fan-out at its cursor, bulk work over what is done already. */
const FAN_OUT_DEADLINE_MS = 30_000
const BULK_DEADLINE_MS = 45_000

runProcess(async () => {
  const context = await openContext('fanout-worker', process.env)
  const { transport, log } = context
  queueMetrics(context.metrics, context.router.nodes)
  transport.consume({
    queue: QUEUES.fanout,
    handlers: [fanOutPhoto(context)],
    concurrency: FAN_OUTS_AT_ONCE,
    deadlineMs: FAN_OUT_DEADLINE_MS,
  })
  transport.consume({
    queue: QUEUES.fanoutBulk,
    handlers: [backfillFeed(context), purgePhoto(context), askRebuilds(context), rebuildFeed(context)],
    concurrency: BULK_AT_ONCE,
    deadlineMs: BULK_DEADLINE_MS,
  })
  const houseKeeper = createHouseKeeper(chores(context), log)
  houseKeeper.start()
  log.info('ready')
  return {
    log,
    async close() {
      await Promise.all([transport.close(), houseKeeper.close()])
      await context.close()
    },
  }
})
