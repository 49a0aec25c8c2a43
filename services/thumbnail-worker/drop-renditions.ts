import type { Id } from '#kernel/snowflake.ts'
import type { Context } from '#domain/context.ts'
import { findPhoto } from '#domain/photos/photos.queries.ts'
import { renditionFolder } from '#domain/photos/photos.rules.ts'

/** Removes renditions that a slow or repeated job left behind for a photo that has since been deleted. */
export async function dropRenditionsIfGone(
  { router, blobs, config }: Pick<Context, 'router' | 'blobs' | 'config'>,
  photoId: Id,
): Promise<void> {
  const photo = await findPhoto(router, photoId)
  if (photo === undefined || photo.status === 'deleted') {
    await blobs.deletePrefix(renditionFolder(config.secretKey, photoId))
  }
}
