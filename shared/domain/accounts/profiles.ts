import type { Id } from '#kernel/snowflake.ts'
import { readCounts } from '../counters/counters.queries.ts'
import type { AppRouter } from '../database.ts'
import { readRelationships, type Relationship } from '../follows/follows.queries.ts'
import type { CounterKind } from '../counters/counters.table.ts'
import { presentAccountSummary, type AccountSummary } from './accounts.presenter.ts'
import type { AccountRow } from './accounts.queries.ts'

/** How the caller stands to an account. */
export interface RelationshipJson extends Relationship {
  readonly requested: boolean
  readonly blocking: boolean
  readonly muting: boolean
}

/** An account as the API gives it. */
export interface AccountJson extends AccountSummary {
  readonly bio: string
  readonly private: boolean
  readonly createdAt: string
  readonly photoCount: number
  readonly followerCount: number
  readonly followingCount: number
  /** Null for an anonymous caller. */
  readonly relationship: RelationshipJson | null
}

/** An account as everyone may see it: all of it but how it stands to the caller. */
export type ProfileJson = Omit<AccountJson, 'relationship'>

/** What is counted of an account, for its profile. */
export const COUNTED = ['photos', 'followers', 'following'] as const satisfies readonly CounterKind[]

/** Renders accounts with their counts and their relationship to the viewer, in the order given. */
export async function presentAccounts(
  router: AppRouter,
  rows: readonly AccountRow[],
  viewerId: Id | null,
): Promise<AccountJson[]> {
  if (rows.length === 0) return []
  const ids = rows.map((row) => row.id)
  const [counts, relationships] = await Promise.all([
    readCounts(router, ids, COUNTED),
    viewerId === null ? null : readRelationships(router, viewerId, ids),
  ])
  return rows.map((row) => ({
    ...presentProfile(row, counts.get(row.id)),
    relationship: relationships === null ? null : presentRelationship(relationships.get(row.id)),
  }))
}

/** Renders what of an account does not depend on who looks, in the order of the contract. */
export function presentProfile(row: AccountRow, counts: Record<CounterKind, number> | undefined): ProfileJson {
  const { id, username, displayName, avatarUrl } = presentAccountSummary(row)
  return {
    id,
    username,
    displayName,
    bio: row.bio,
    private: row.private,
    avatarUrl,
    createdAt: row.created_at.toISOString(),
    photoCount: counts?.photos ?? 0,
    followerCount: counts?.followers ?? 0,
    followingCount: counts?.following ?? 0,
  }
}

/** Renders one account. */
export async function presentAccount(router: AppRouter, row: AccountRow, viewerId: Id | null): Promise<AccountJson> {
  const [account] = await presentAccounts(router, [row], viewerId)
  if (account === undefined) throw new TypeError('an account has one presentation')
  return account
}

/** Renders a relationship; requests, blocks and mutes do not exist yet, so they are all false. */
export function presentRelationship(relationship: Relationship | undefined): RelationshipJson {
  return {
    following: relationship?.following ?? false,
    requested: false,
    followedBy: relationship?.followedBy ?? false,
    blocking: false,
    muting: false,
  }
}
