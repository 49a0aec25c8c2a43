import type { Id } from '#kernel/snowflake.ts'

/** An account as it stands inside a photo or a list. */
export interface AccountSummary {
  readonly id: string
  readonly username: string
  readonly displayName: string
  readonly avatarUrl: string | null
}

/** Renders the part of an account that goes with everything it made. Nobody has an avatar yet. */
export function presentAccountSummary(row: {
  readonly id: Id
  readonly username: string
  readonly display_name: string
}): AccountSummary {
  return { id: row.id.toString(), username: row.username, displayName: row.display_name, avatarUrl: null }
}
