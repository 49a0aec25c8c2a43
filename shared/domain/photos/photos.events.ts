import { Type } from 'typebox'
import { defineEvent } from '#platform/outbox/event-contract.ts'
import { IdText } from '../ids.schema.ts'
import { QUEUES } from '../queues.ts'

const PhotoBody = Type.Object({ photoId: IdText })

/** An original is stored and its row is `processing`: make its renditions, and screen it. */
export const photoUploaded = defineEvent('photo.uploaded', PhotoBody, [QUEUES.thumbnail, QUEUES.safety])

/** Both facts are known and good, and published_id is minted: bring it to the followers. */
export const photoPublished = defineEvent('photo.published', PhotoBody, [QUEUES.fanout])

/** The owner deleted it; nobody sees it any more. Remove its blobs, feed entries and row. */
export const photoDeleted = defineEvent('photo.deleted', PhotoBody, [QUEUES.fanoutBulk])
