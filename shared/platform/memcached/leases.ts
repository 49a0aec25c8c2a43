import { casOf, type Answer } from './answers.ts'
import type { CacheNode } from './cache-node.ts'
import type { Connection } from './connection.ts'
import { ENVELOPE_BYTES, seal, type Envelope } from './envelope.ts'
import { encodeAdd, encodeDelete, encodeSet, isOk } from './packets.ts'

/** A key on its way: what the caller calls it, what it is called on the wire, and the node that has it. */
export interface PlacedKey {
  readonly key: string
  readonly wireKey: string
  readonly node: CacheNode
}

/**
 * The right to store one value, won by putting a placeholder where there was nothing (Nishtala et al., "Scaling
 * Memcache at Facebook", 2013, by the CAS recipe). The placeholder's CAS is the token: a delete takes the placeholder
 * away, so a value fetched before it cannot be stored after it. A server that restarts gives the same CAS numbers
 * again, so a token is good on its own connection only.
 */
export interface Lease extends PlacedKey {
  /** Stores the value, if the lease is still good. */
  store(envelope: Envelope, lifeSeconds: number): Promise<void>
  /** Gives the lease up, so that the next reader can win one at once. */
  release(): Promise<void>
}

export interface Leases {
  /** A lease; 'lost' when somebody else has one or was faster; 'down' when the node does not answer. */
  acquire(placed: PlacedKey): Promise<Lease | 'lost' | 'down'>
  /** Settles when this process's lease on the key, if it has one, is over. */
  over(wireKey: string): Promise<void> | undefined
}

/** How long a reader who died keeps the others from storing. Fetching takes less, or is not stored. */
const LEASE_SECONDS = 3
/** memcached's default limit is 1 MiB for a value with its key and header. */
const VALUE_BYTES_MAX = 1_048_576 - ENVELOPE_BYTES - 512

export function createLeases(): Leases {
  /** The leases of this process, from before they are asked for: a second reader here need not ask. */
  const held = new Map<string, Promise<void>>()

  async function acquire(placed: PlacedKey): Promise<Lease | 'lost' | 'down'> {
    const { wireKey, node } = placed
    if (held.has(wireKey)) return 'lost'
    const { promise, resolve } = Promise.withResolvers<undefined>()
    held.set(wireKey, promise)
    const end = (): void => {
      held.delete(wireKey)
      resolve(undefined)
    }
    const placeholder = seal(wireKey, { kind: 'lease' })
    const reply = await node.command((opaque) => encodeAdd(wireKey, placeholder, LEASE_SECONDS, opaque))
    if (reply === undefined || !isOk(reply.message)) {
      end()
      return reply === undefined ? 'down' : 'lost'
    }
    return grant(placed, reply.connection, reply.message, end)
  }

  return { acquire, over: (wireKey) => held.get(wireKey) }
}

function grant(placed: PlacedKey, connection: Connection, granted: Answer, end: () => void): Lease {
  const { wireKey, node } = placed
  const cas = casOf(granted)

  async function release(): Promise<void> {
    await node.commandOn(connection, (opaque) => encodeDelete(wireKey, opaque, cas))
    end()
  }

  return {
    ...placed,
    async store(envelope, lifeSeconds) {
      if (envelope.kind === 'value' && envelope.bytes.length > VALUE_BYTES_MAX) return release()
      const sealed = seal(wireKey, envelope)
      await node.commandOn(connection, (opaque) => encodeSet(wireKey, sealed, lifeSeconds, cas, opaque))
      end()
    },
    release,
  }
}
