import { sql, type Kysely } from 'kysely'
import { bumpMapVersion } from './handover.ts'

/** Writes weights of nodes, whole numbers from 0 to `WEIGHT_MAX`, into the directory; processes have them within a second or two. */
export async function setNodeWeights<DB>(directory: Kysely<DB>, weights: ReadonlyMap<string, number>): Promise<void> {
  await directory.transaction().execute(async (trx) => {
    for (const [node, weight] of weights) {
      await sql`insert into node_weights (node, weight) values (${node}, ${weight})
        on conflict (node) do update set weight = excluded.weight`.execute(trx)
    }
    await bumpMapVersion(trx)
  })
}

/** Forgets the weight of a node that has no shards. */
export async function forgetNodeWeight<DB>(directory: Kysely<DB>, node: string): Promise<void> {
  await sql`delete from node_weights where node = ${node}`.execute(directory)
}
