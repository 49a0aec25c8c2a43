import { Type } from 'typebox'
import { IdText } from '#domain/ids.schema.ts'
import { Nullable } from './nullable.ts'

export const RelationshipSchema = Type.Object({
  following: Type.Boolean(),
  requested: Type.Boolean(),
  followedBy: Type.Boolean(),
  blocking: Type.Boolean(),
  muting: Type.Boolean(),
})

const accountProperties = {
  id: IdText,
  username: Type.String(),
  displayName: Type.String(),
  bio: Type.String(),
  private: Type.Boolean(),
  avatarUrl: Nullable(Type.String()),
  createdAt: Type.String({ format: 'date-time' }),
  photoCount: Type.Integer(),
  followerCount: Type.Integer(),
  followingCount: Type.Integer(),
  relationship: Nullable(RelationshipSchema),
}

export const AccountSchema = Type.Object(accountProperties)

/** One's own account. */
export const OwnAccountSchema = Type.Object({
  ...accountProperties,
  email: Nullable(Type.String()),
  role: Type.Enum(['member', 'moderator']),
})

/** What signing up and signing in give. */
export const SignedInSchema = Type.Object({ account: AccountSchema, token: Type.String() })

export const SessionSchema = Type.Object({
  id: IdText,
  createdAt: Type.String({ format: 'date-time' }),
  lastSeenAt: Type.String({ format: 'date-time' }),
  userAgent: Type.String(),
  current: Type.Boolean(),
})
