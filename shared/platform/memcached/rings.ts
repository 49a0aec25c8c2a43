import { buildRing, placeKey, type Ring } from '#kernel/hash-ring.ts'
import { createCacheNode, type CacheNode, type CacheNodeOptions } from './cache-node.ts'
import type { CacheServer } from './server-list.ts'

/** Where keys live: on the ring that is read, and during a resize also on the other one, where they are deleted too. */
export interface Rings {
  /** The node that is read and filled. */
  nodeOf(key: string): CacheNode
  /** Every node that may have the key: one, or two during a resize. */
  nodesOf(key: string): CacheNode[]
  readonly nodes: readonly CacheNode[]
  close(): void
}

/** Builds both rings over one set of nodes: a server that is in both has one connection. */
export function createRings(
  servers: readonly CacheServer[],
  otherServers: readonly CacheServer[],
  options: CacheNodeOptions,
): Rings {
  const nodes = new Map<string, CacheNode>()
  for (const server of [...servers, ...otherServers]) {
    if (!nodes.has(server.name)) nodes.set(server.name, createCacheNode(server, options))
  }
  const ring = buildRing(servers.map(({ name }) => name))
  const other = otherServers.length === 0 ? undefined : buildRing(otherServers.map(({ name }) => name))

  function place(on: Ring, key: string): CacheNode {
    const node = nodes.get(placeKey(on, key))
    if (node === undefined) throw new Error('a ring names a server that has no node')
    return node
  }

  return {
    nodeOf: (key) => place(ring, key),
    nodesOf: (key) => [...new Set(other === undefined ? [place(ring, key)] : [place(ring, key), place(other, key)])],
    nodes: [...nodes.values()],
    close: () => nodes.forEach((node) => node.close()),
  }
}
