import { LRUCache } from 'lru-cache'
import type { Clock } from '#kernel/clock.ts'
import type { Cache } from '#platform/memcached/cache.ts'

/** At most `quota` uses in a window, given back one by one as the window passes. */
export interface RatePolicy {
  /** A token of lower-case letters and hyphens: it stands in the headers. */
  readonly name: string
  readonly quota: number
  readonly windowSeconds: number
}

export interface RateDecision {
  readonly policy: RatePolicy
  readonly allowed: boolean
  /** Uses left now. */
  readonly remaining: number
  /** When refused: whole seconds until a use is free again. Otherwise: until all of the quota is. */
  readonly seconds: number
}

/** Keeps how much of each policy each key has used. */
export interface RateStore {
  /** Takes one use, unless none is left. */
  take(policy: RatePolicy, key: string): Promise<RateDecision>
  /** Gives one use back that turned out not to count. */
  giveBack(policy: RatePolicy, key: string): Promise<void>
}

/** Keys at most; the one used longest ago is forgotten first. */
const KEYS_MAX = 50_000

/**
 * A store in this process's memory. One number is kept for each key, as in the generic cell rate algorithm (ITU-T
 * I.371): the moment at which its quota is whole again. So there is no window to wait for, and no burst at its edge.
 */
export function createLocalRateStore(clock: Clock): RateStore {
  const wholeAtMs = new LRUCache<string, number>({ max: KEYS_MAX })
  return {
    take(policy, key) {
      const place = `${policy.name}:${key}`
      const windowMs = policy.windowSeconds * 1_000
      const useMs = windowMs / policy.quota
      const nowMs = clock.monotonicMs()
      const next = Math.max(wholeAtMs.get(place) ?? 0, nowMs) + useMs
      const overMs = next - nowMs - windowMs
      // A float's rounding must not refuse the last use of a quota.
      if (overMs > useMs / 1_000) {
        return Promise.resolve({ policy, allowed: false, remaining: 0, seconds: Math.ceil(overMs / 1_000) })
      }
      wholeAtMs.set(place, next)
      const remaining = Math.floor((windowMs - (next - nowMs)) / useMs + 0.001)
      return Promise.resolve({ policy, allowed: true, remaining, seconds: Math.ceil((next - nowMs) / 1_000) })
    },
    giveBack(policy, key) {
      const place = `${policy.name}:${key}`
      const whole = wholeAtMs.get(place)
      if (whole !== undefined) wholeAtMs.set(place, whole - (policy.windowSeconds * 1_000) / policy.quota)
      return Promise.resolve()
    },
  }
}

/**
 * A store that all processes share. Its windows are fixed, as a cache can count but not compare: at the edge of two, a
 * key may take two quotas in quick succession. Every use is taken from `local` as well, which decides alone while the
 * cache cannot tell: so an outage of the cache gives nobody a fresh quota.
 */
export function createSharedRateStore(cache: Pick<Cache, 'increment'>, local: RateStore, clock: Clock): RateStore {
  return {
    async take(policy, key) {
      const windowMs = policy.windowSeconds * 1_000
      const [own, taken] = await Promise.all([local.take(policy, key), cache.increment(counterOf(policy, key), windowMs)])
      if (taken === undefined) return own
      const allowed = taken <= policy.quota
      // A refused use is given back here: our own store would otherwise count what it never allowed.
      if (!allowed && own.allowed) await local.giveBack(policy, key)
      const seconds = Math.max(1, Math.ceil((windowMs - (clock.nowMs() % windowMs)) / 1_000))
      return { policy, allowed, remaining: Math.max(0, policy.quota - taken), seconds }
    },
    async giveBack(policy, key) {
      await Promise.all([
        local.giveBack(policy, key),
        cache.increment(counterOf(policy, key), policy.windowSeconds * 1_000, -1),
      ])
    },
  }
}

function counterOf(policy: RatePolicy, key: string): string {
  return `rate:${policy.name}:${key}`
}

/** `RateLimit` and `RateLimit-Policy` as draft-ietf-httpapi-ratelimit-headers-10 writes them. */
export function rateHeaders(decisions: readonly RateDecision[]): Record<string, string> {
  return {
    'RateLimit': decisions.map((d) => `"${d.policy.name}";r=${d.remaining};t=${d.seconds}`).join(', '),
    'RateLimit-Policy': decisions.map(({ policy: p }) => `"${p.name}";q=${p.quota};w=${p.windowSeconds}`).join(', '),
  }
}

/**
 * What an address counts as: an IPv4 address itself, also when written in IPv6; of an IPv6 address its /64, since
 * one customer commands that many.
 */
export function networkOf(address: string): string {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)
  if (mapped?.[1] !== undefined) return mapped[1]
  if (!address.includes(':')) return address
  const [head = '', tail] = (address.split('%', 1)[0] ?? '').toLowerCase().split('::')
  const left = head === '' ? [] : head.split(':')
  const right = tail === undefined || tail === '' ? [] : tail.split(':')
  const zeros = tail === undefined ? 0 : Math.max(0, 8 - left.length - right.length)
  const groups = [...left, ...Array<string>(zeros).fill('0'), ...right]
  return `${groups.slice(0, 4).map((group) => group.replace(/^0+(?=.)/, '')).join(':')}::/64`
}
