import { shardOf, type Id } from '#kernel/snowflake.ts'
import type { Context } from '#domain/context.ts'
import { feedsArrived } from '#domain/feed/feed.events.ts'
import { requestRebuilds } from '#domain/feed/feed.rebuild.ts'
import type { Handler } from '#platform/outbox/transport.ts'

/**
 * feeds.arrived → a `feed.rebuild` for each account of the range whose feed is still to be rebuilt, all or none. A delivery
 * that comes again asks again for those that are not done: a rebuild that finds nothing to do ends at once.
 */
export function askRebuilds({ router }: Pick<Context, 'router'>): Handler<typeof feedsArrived.schema> {
  return {
    event: feedsArrived,
    async handle(body) {
      const first = BigInt(body.first) as Id
      const last = BigInt(body.last) as Id
      await router.write(shardOf(first), (trx) => requestRebuilds(trx, first, last))
    },
  }
}
