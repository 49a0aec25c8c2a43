import { randomBytes } from 'node:crypto'
import { hash, hashSync, verify } from '@node-rs/argon2'
import { problem } from '#kernel/errors.ts'

/**
 * argon2id, 19 MiB, two passes, one lane: the first choice of OWASP's Password Storage Cheat Sheet.
 * The library's default algorithm is argon2id.
 */
const COST = { memoryCost: 19_456, timeCost: 2, parallelism: 1 }

/** Hashing runs in libuv's pool of four threads; the other two are left to files and DNS. */
const HASHES_AT_ONCE_MAX = 2
const HASHES_WAITING_MAX = 256
/** What one hash takes on a slow core, for the Retry-After of those we turn away. */
const HASH_MS = 100

export interface Passwords {
  /**
   * @returns the hash in PHC form, with its salt and costs
   * @throws ProblemError unavailable when too many already wait
   */
  hash(password: string): Promise<string>
  /**
   * Whether that is the password of that hash. Without a hash the answer is false and takes as long,
   * so that time does not tell which accounts exist.
   *
   * @throws ProblemError unavailable when too many already wait
   */
  verify(passwordHash: string | undefined, password: string): Promise<boolean>
}

/** Password hashing with bounded concurrency and a bounded queue: a flood of sign-ins costs those who sign in only. */
export function createPasswords(): Passwords {
  const decoy = hashSync(randomBytes(16), COST)
  const enter = createGate()
  return {
    hash: (password) => enter(() => hash(normalise(password), COST)),
    async verify(passwordHash, password) {
      const same = await enter(() => verify(passwordHash ?? decoy, normalise(password)))
      return same && passwordHash !== undefined
    },
  }
}

/** Keyboards compose the same character differently: NIST SP 800-63B asks for NFKC. */
function normalise(password: string): string {
  return password.normalize('NFKC')
}

function createGate(): <T>(work: () => Promise<T>) => Promise<T> {
  let running = 0
  const waiting: (() => void)[] = []
  return async (work) => {
    if (running >= HASHES_AT_ONCE_MAX) {
      if (waiting.length >= HASHES_WAITING_MAX) {
        throw problem('unavailable', 'Too many people are signing in at this moment.', {
          retryAfterSeconds: Math.ceil((HASHES_WAITING_MAX * HASH_MS) / HASHES_AT_ONCE_MAX / 1_000),
        })
      }
      // Whoever leaves hands its place over, so `running` stays as it is.
      await new Promise<void>((resolve) => waiting.push(resolve))
    } else {
      running++
    }
    try {
      return await work()
    } finally {
      const next = waiting.shift()
      if (next === undefined) running--
      else next()
    }
  }
}
