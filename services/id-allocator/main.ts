import { openContext } from '#domain/context.ts'
import { createHouseKeeper } from '#platform/lifecycle/house-keeper.ts'
import { runProcess } from '#platform/lifecycle/run-process.ts'
import { chores } from './chores.ts'
import { grantLeases } from './grant-lease.ts'

runProcess(async () => {
  const context = await openContext('id-allocator', process.env)
  const { router, config, metrics, log } = context
  const house = { directory: router.directory.primary, laneWidth: config.laneWidth, metrics, log }
  const houseKeeper = createHouseKeeper(chores(house), log)
  houseKeeper.start()
  const desk = grantLeases(context)
  log.info('ready')
  return {
    log,
    async close() {
      await Promise.all([houseKeeper.close(), desk.close()])
      await context.close()
    },
  }
})
