import type { NodeConfig } from '../../config/database.ts'
import type { Logger } from '../../logger/logger.ts'
import { openCopyConnection, type CopyConnection } from './copy-connection.ts'
import type { Ends } from './align-rows.ts'

/** The connections of a mover, one for each node, opened when they are needed and kept for the next shard. */
export interface OpenEnds {
  /** @throws Error when a node cannot be reached, or is not configured */
  connect(source: string, target: string): Promise<Ends>
  /** One of them alone, as `connect`. */
  to(name: string): Promise<CopyConnection>
  /** The URL of a node past any pooler. @throws Error when it is not configured */
  urlOf(name: string): string
  /** Closes all of them, whatever they are doing. */
  discard(): Promise<void>
}

export function openEnds(nodes: readonly NodeConfig[], log: Pick<Logger, 'warn'>): OpenEnds {
  const open = new Map<string, CopyConnection>()

  function urlOf(name: string): string {
    const node = nodes.find((configured) => configured.name === name)
    if (node === undefined) throw new Error(`There is no node ${name}.`)
    return node.directUrl ?? node.url
  }

  async function connect(name: string): Promise<CopyConnection> {
    const found = open.get(name)
    if (found !== undefined) return found
    const connection = await openCopyConnection(urlOf(name), 'monogram shards', log)
    open.set(name, connection)
    return connection
  }

  return {
    async connect(source, target) {
      return { source: await connect(source), target: await connect(target) }
    },
    to: connect,
    urlOf,
    async discard() {
      const connections = [...open.values()]
      open.clear()
      await Promise.all(connections.map((connection) => connection.close().catch(() => undefined)))
    },
  }
}
