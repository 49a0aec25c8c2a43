import type { Id } from '#kernel/snowflake.ts'
import { cachedForm, readForm, readForms, tagged, TAG_BYTES } from '../cached-form.ts'
import type { Context } from '../context.ts'
import { readCounts } from '../counters/counters.queries.ts'
import { jsonFields } from '../splice-json.ts'
import { profileKey, summaryKey, usernameKey } from './accounts.keys.ts'
import { presentAccountSummary } from './accounts.presenter.ts'
import { findAccounts, findUsernameHolder } from './accounts.queries.ts'
import { COUNTED, presentProfile } from './profiles.ts'

export type AccountReadContext = Pick<Context, 'router' | 'cache'>

const SUMMARY_FORM = cachedForm('summary 1')
const PROFILE_FORM = cachedForm('profile 1')
const USERNAME_FORM = cachedForm('username 1')

/**
 * The summaries of accounts, each as its JSON.
 * @returns in the order of the ids; of who is not active, undefined
 */
export async function readSummaries(
  context: AccountReadContext,
  ids: readonly Id[],
): Promise<(Buffer | undefined)[]> {
  if (ids.length === 0) return []
  const keys = ids.map(summaryKey)
  const values = await readForms(context, SUMMARY_FORM, keys, async (router, missing) => {
    const idOf = new Map(ids.map((id, at) => [keys[at] ?? '', id]))
    const rows = await findAccounts(router, missing.flatMap((key) => idOf.get(key) ?? []))
    return new Map(
      missing.map((key) => {
        const row = rows.get(idOf.get(key) ?? (0n as Id))
        const json = row && JSON.stringify(presentAccountSummary(row))
        return [key, json === undefined ? null : tagged(SUMMARY_FORM, Buffer.from(json))]
      }),
    )
  })
  return values.map((value) => value?.subarray(TAG_BYTES))
}

/** The profile of an active account: the fields of its JSON up to `relationship`, without the braces. */
export async function readProfile(context: AccountReadContext, id: Id): Promise<Buffer | undefined> {
  const value = await readForm(context, PROFILE_FORM, profileKey(id), async (router) => {
    const [rows, counts] = await Promise.all([findAccounts(router, [id]), readCounts(router, [id], COUNTED)])
    const row = rows.get(id)
    return row === undefined ? null : tagged(PROFILE_FORM, jsonFields(presentProfile(row, counts.get(id))))
  })
  return value?.subarray(TAG_BYTES)
}

/**
 * The id that a username leads to, in its stored form. Its account may not exist (yet): a sign-up that makes it says
 * so, and only an account has a profile.
 */
export async function readUsernameHolder(
  context: AccountReadContext,
  username: string,
): Promise<Id | undefined> {
  const value = await readForm(context, USERNAME_FORM, usernameKey(username), async (router) => {
    const id = await findUsernameHolder(router, username)
    if (id === undefined) return null
    const packed = Buffer.allocUnsafe(8)
    packed.writeBigUInt64BE(id)
    return tagged(USERNAME_FORM, packed)
  })
  return value?.readBigUInt64BE(TAG_BYTES) as Id | undefined
}
