import type { Connection } from './connection.ts'
import { encodeDeletes, isDeleted } from './packets.ts'

/** The deletes that one node has not confirmed: until they are done, what it has may be older than what was written. */
export interface OwedDeletes {
  readonly isEmpty: boolean
  /** Remembers a key to be deleted once the node answers again. */
  owe(wireKey: string): void
  /**
   * Sends what is owed by this process, and at least a no-op.
   * @param patienceMs how long each of its answers may take; the connection's deadline when not said
   * @returns true when the node confirmed all of it and nothing was owed anew meanwhile
   */
  settle(connection: Connection, patienceMs?: number): Promise<boolean>
  /** The same for what other processes owe too, as far as they had written it down before the call. @throws what `written` throws */
  settleAll(connection: Connection): Promise<boolean>
}

/** Keys of one packet of deletes. */
const BATCH_KEYS = 500
/** Beyond it keys are left to what is written down: every delete of a change has its row before it is tried. */
const OWED_KEYS_MAX = 20_000

/** @param written gives the keys on the wire, on this node, of the changes whose deletes are written down as not done, in batches */
export function createOwedDeletes(written: () => AsyncIterable<readonly string[]>): OwedDeletes {
  const owed = new Set<string>()

  /** Sends keys; those of a batch that is not confirmed are owed again. */
  async function send(connection: Connection, wireKeys: readonly string[], patienceMs?: number): Promise<boolean> {
    const answers = await connection.request(wireKeys.length + 1, (first) => encodeDeletes(wireKeys, first), patienceMs)
    // The no-op's answer ends them.
    if (answers?.slice(0, -1).every((answer) => answer !== undefined && isDeleted(answer)) === true) return true
    for (const key of wireKeys) owe(key)
    return false
  }

  function owe(wireKey: string): void {
    if (owed.size < OWED_KEYS_MAX) owed.add(wireKey)
  }

  async function settle(connection: Connection, patienceMs?: number): Promise<boolean> {
    do {
      const batch = [...owed].slice(0, BATCH_KEYS)
      // Taken out before they are sent: a key that is owed anew meanwhile must be sent again.
      for (const key of batch) owed.delete(key)
      if (!(await send(connection, batch, patienceMs))) return false
    } while (owed.size > 0)
    return true
  }

  return {
    get isEmpty() {
      return owed.size === 0
    },
    owe,
    settle,
    async settleAll(connection) {
      for await (const wireKeys of written()) {
        for (let at = 0; at < wireKeys.length; at += BATCH_KEYS) {
          if (!(await send(connection, wireKeys.slice(at, at + BATCH_KEYS)))) return false
        }
      }
      return settle(connection)
    },
  }
}
