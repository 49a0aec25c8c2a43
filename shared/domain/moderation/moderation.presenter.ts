import { findAccounts } from '../accounts/accounts.queries.ts'
import { presentAccountSummary, type AccountSummary } from '../accounts/accounts.presenter.ts'
import type { Context } from '../context.ts'
import { photosToJson } from '../photos/photos.hydration.ts'
import type { PhotoJson } from '../photos/photos.presenter.ts'
import { claimOf, type ModeratedPhoto } from './moderation.queries.ts'

/** A photo as moderators see it. */
export interface ModeratedPhotoJson extends PhotoJson {
  readonly moderation: {
    readonly claimedBy: AccountSummary | null
    readonly claimedUntil: string | null
    /** What each screen said of it. */
    readonly screening: object | null
  }
}

/** Renders photos for moderators, with their authors and those who claimed them: two statements per node at most. */
export async function presentModerated(
  context: Pick<Context, 'router' | 'config'>,
  photos: readonly ModeratedPhoto[],
): Promise<ModeratedPhotoJson[]> {
  const claims = new Map(photos.map((photo) => [photo.id.toString(), claimOf(photo)]))
  const claimants = [...claims.values()].flatMap((claim) => (claim === null ? [] : [claim.moderatorId]))
  const [rendered, moderators] = await Promise.all([
    photosToJson(context, photos),
    findAccounts(context.router, [...new Set(claimants)]),
  ])
  const screenings = new Map(photos.map((photo) => [photo.id.toString(), photo.verdict_detail]))
  return rendered.map((photo) => {
    const claim = claims.get(photo.id) ?? null
    const moderator = claim === null ? undefined : moderators.get(claim.moderatorId)
    return {
      ...photo,
      moderation: {
        claimedBy: moderator === undefined ? null : presentAccountSummary(moderator),
        claimedUntil: claim?.until.toISOString() ?? null,
        screening: screenings.get(photo.id) ?? null,
      },
    }
  })
}
