import type { FastifyReply } from 'fastify'
import { encodeCursor } from '#kernel/cursor.ts'
import type { Id } from '#kernel/snowflake.ts'
import { addPhoto, type ShownPhoto } from '#domain/photos/photos.splice.ts'
import { spliceJson, type JsonPiece } from '#domain/splice-json.ts'
import { linkNext } from './pagination.ts'

/** Answers with JSON that was rendered before, past the route's serialiser: the route's schema only describes it. */
export function sendJson(reply: FastifyReply, pieces: readonly JsonPiece[]): FastifyReply {
  return reply.header('content-type', 'application/json; charset=utf-8').send(spliceJson(pieces))
}

/** Answers with one photo. */
export function sendPhoto(reply: FastifyReply, photo: ShownPhoto): FastifyReply {
  const pieces: JsonPiece[] = []
  addPhoto(pieces, photo)
  return sendJson(reply, pieces)
}

/** Answers with a page of photos, as `sendPage` does with items that are not rendered yet. */
export function sendPhotoPage(
  reply: FastifyReply,
  list: { readonly kind: string; readonly photos: readonly ShownPhoto[]; readonly next: Id | null; readonly base: string },
): FastifyReply {
  const next = list.next === null ? null : encodeCursor(list.kind, list.next)
  if (next !== null) linkNext(reply, next, list.base)
  const pieces: JsonPiece[] = ['{"items":[']
  for (const [index, photo] of list.photos.entries()) {
    if (index > 0) pieces.push(',')
    addPhoto(pieces, photo)
  }
  pieces.push(`],"next":${next === null ? 'null' : `"${next}"`}}`)
  return sendJson(reply, pieces)
}
