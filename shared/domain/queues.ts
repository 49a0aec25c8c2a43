/**
 * Queues by urgency: work that a user waits for never stands behind bulk work.
 * Each names its events in some `<noun>.events.ts`; each is consumed by one process type.
 */
export const QUEUES = {
  thumbnail: 'thumbnail',
  safety: 'safety',
  fanout: 'fanout',
  /** Backfills, rebuilds and purges. */
  fanoutBulk: 'fanout.bulk',
} as const
