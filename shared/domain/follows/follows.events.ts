import { Type } from 'typebox'
import { defineEvent } from '#platform/outbox/event-contract.ts'
import { IdText } from '../ids.schema.ts'
import { QUEUES } from '../queues.ts'

/** A follow began: put the followee's earlier photos into the follower's feed. */
export const followCreated = defineEvent(
  'follow.created',
  Type.Object({ followerId: IdText, followeeId: IdText }),
  [QUEUES.fanoutBulk],
)
