import { Type } from 'typebox'
import { defineEvent } from '#platform/outbox/event-contract.ts'
import { IdText } from '../ids.schema.ts'
import { QUEUES } from '../queues.ts'

/** An account's floor was raised: store again what lies below it, and lower it. */
export const feedRebuild = defineEvent('feed.rebuild', Type.Object({ accountId: IdText }), [QUEUES.fanoutBulk])
