import { Type } from 'typebox'
import { IdText } from '#domain/ids.schema.ts'
import { Nullable } from './nullable.ts'

const Time = Type.String({ format: 'date-time' })

export const AccountSummarySchema = Type.Object({
  id: IdText,
  username: Type.String(),
  displayName: Type.String(),
  avatarUrl: Nullable(Type.String()),
})

const photoProperties = {
  id: IdText,
  account: AccountSummarySchema,
  status: Type.Enum(['processing', 'published', 'review', 'rejected', 'failed', 'removed']),
  failure: Nullable(Type.Object({ code: Type.String(), detail: Type.String() })),
  caption: Type.String(),
  tags: Type.Array(Type.String()),
  width: Nullable(Type.Integer()),
  height: Nullable(Type.Integer()),
  takenAt: Nullable(Time),
  createdAt: Time,
  publishedAt: Nullable(Time),
  blurhash: Nullable(Type.String()),
  renditions: Type.Array(
    Type.Object({
      name: Type.Enum(['thumb', 'small', 'medium', 'large']),
      url: Type.String(),
      width: Type.Integer(),
      height: Type.Integer(),
      format: Type.Enum(['jpeg', 'webp']),
    }),
  ),
  likeCount: Type.Integer(),
  commentCount: Type.Integer(),
  liked: Type.Boolean(),
}

export const PhotoSchema = Type.Object(photoProperties)

/** A photo as moderators see it. */
export const ModeratedPhotoSchema = Type.Object({
  ...photoProperties,
  moderation: Type.Object({
    claimedBy: Nullable(AccountSummarySchema),
    claimedUntil: Nullable(Time),
    screening: Nullable(Type.Object({}, { additionalProperties: true, description: 'By screen: its verdict and why.' })),
  }),
})
