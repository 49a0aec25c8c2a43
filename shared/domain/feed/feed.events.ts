import { Type } from 'typebox'
import { defineEvent } from '#platform/outbox/event-contract.ts'
import { IdText } from '../ids.schema.ts'
import { QUEUES } from '../queues.ts'

/** An account's floor was raised: store again what lies below it, and lower it. */
export const feedRebuild = defineEvent('feed.rebuild', Type.Object({ accountId: IdText }), [QUEUES.fanoutBulk])

/** A shard arrived on its node: ask for the rebuild of those of its feeds whose accounts are from `first` to `last`. */
export const feedsArrived = defineEvent('feeds.arrived', Type.Object({ first: IdText, last: IdText }), [QUEUES.fanoutBulk])
