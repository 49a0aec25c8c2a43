import type { DatabaseServer, NodeConfig, PoolConfig } from '../config/database.ts'
import type { Logger } from '../logger/logger.ts'
import { probeServer, type ServerFacts } from './probe-server.ts'

/**
 * Asks every server, at boot, whether it can serve the pools that are about to be opened, and gives the nodes back with
 * what is found: statements are prepared under names only where the configuration or the server says that they are kept.
 * Through a pooler the server's limit says nothing, so none is checked there.
 *
 * @throws Error when a node cannot be used, or when the pools of all processes exceed what a server allows, with the numbers;
 *   a replica that is away is only told of
 */
export async function fitPools(nodes: readonly NodeConfig[], pool: PoolConfig, log: Logger): Promise<NodeConfig[]> {
  const facts = new Map<string, ServerFacts>()
  const probe = async (server: DatabaseServer): Promise<void> => {
    facts.set(server.name, await probeServer(server))
  }
  const probeReplica = (replica: DatabaseServer): Promise<void> =>
    probe(replica).catch((error: unknown) => log.warn({ err: error, replica: replica.name }, 'a replica is away'))
  await Promise.all(nodes.flatMap((node) => [probe(node), ...(node.replicas ?? []).map(probeReplica)]))

  refuseTooMany(nodes.flatMap((node) => [node, ...(node.replicas ?? [])]), facts, pool)
  const found = <T extends DatabaseServer>(server: T): T => ({
    ...server,
    preparedStatements: server.preparedStatements ?? facts.get(server.name)?.keepsPreparedStatements ?? false,
  })
  return nodes.map((node) => ({ ...found(node), replicas: (node.replicas ?? []).map(found) }))
}

function refuseTooMany(servers: readonly DatabaseServer[], facts: ReadonlyMap<string, ServerFacts>, pool: PoolConfig): void {
  const direct = servers.filter(({ name }) => facts.get(name)?.isPooled === false)
  for (const here of Map.groupBy(direct, ({ url }) => hostOf(url)).values()) {
    const limit = Math.min(...here.map(({ name }) => facts.get(name)?.connectionsMax ?? Infinity))
    const needed = pool.processes * pool.max * here.length
    if (needed <= limit) continue
    const names = here.map(({ name }) => name).join(' and ')
    const databases = here.length === 1 ? '' : ` × ${here.length} databases there`
    throw new Error(
      `${names} allows ${limit} connections, and ${pool.processes} processes (DATABASE_PROCESSES) × ${pool.max} connections ` +
        `(DATABASE_POOL_MAX)${databases} are ${needed}. Lower DATABASE_POOL_MAX to ${Math.floor(limit / pool.processes / here.length)}, ` +
        'raise the limit of the server, or put a PgBouncer before it.',
    )
  }
}

/** Databases of one server share its limit. */
function hostOf(url: string): string {
  return URL.canParse(url) ? new URL(url).host : url
}
