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
