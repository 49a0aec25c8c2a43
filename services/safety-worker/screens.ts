import type { Context } from '#domain/context.ts'
import type { Screen } from './screen.ts'
import { startClassifier } from './nsfw/classifier.ts'
import { bannedHashScreen } from './screens/banned-hash.ts'
import { nsfwClassifierScreen } from './screens/nsfw-classifier.ts'
import type { NsfwThresholds } from './screens/nsfw-classifier.ts'

/** How long a newly banned picture may go unnoticed. */
const BANNED_LIST_REFRESH_MS = 10_000
/** Each costs two microseconds a picture, and 100 bytes. */
const BANNED_HASHES_MAX = 200_000

/** The screens that every picture goes through. A new one is one more file in screens/ and one more line here. */
export interface Screens {
  readonly all: readonly Screen[]
  close(): Promise<void>
}

/** Opens all screens; what they load, they load in the background. */
export function openScreens(context: Pick<Context, 'config' | 'log' | 'router' | 'clock'>): Screens {
  const { config, log, router, clock } = context
  const all = [
    bannedHashScreen({
      listHashes: async () => {
        const rows = router.directory.primary.selectFrom('banned_hashes').select('hash')
        return (await rows.orderBy('created_at', 'desc').limit(BANNED_HASHES_MAX).execute()).map(({ hash }) => hash)
      },
      distanceMax: config.safety.hashDistanceMax,
      refreshMs: BANNED_LIST_REFRESH_MS,
      nowMs: () => clock.monotonicMs(),
    }),
    nsfwClassifierScreen({
      classifier: startClassifier({ report: ({ event, ...detail }) => log.info(detail, `classifier ${event}`) }),
      thresholds: thresholdsOf(config.safety),
    }),
  ]
  return {
    all,
    close: async () => {
      await Promise.all(all.map((screen) => screen.close()))
    },
  }
}

/** Pictures that merely show skin are never rejected by a machine: a moderator sees the most suspicious of them. */
function thresholdsOf({ reviewAt, rejectAt }: { reviewAt: number; rejectAt: number }): NsfwThresholds {
  return {
    Porn: { reviewAt, rejectAt },
    Hentai: { reviewAt, rejectAt },
    Sexy: { reviewAt: rejectAt, rejectAt: null },
  }
}
