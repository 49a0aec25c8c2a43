import { Command } from 'commander'
import { ensurePartitions } from '#domain/feed/feed.partitions.ts'
import type { Database } from '#domain/database.ts'
import { migrations } from '#migrations/migrations.ts'
import { loadLogLevel, loadNodes } from '#platform/config/config.ts'
import { createLogger } from '#platform/logger/logger.ts'
import { migrateNode } from '#platform/postgres/migrate.ts'
import { openPool } from '#platform/postgres/pool.ts'
import { probeServer } from '#platform/postgres/probe-server.ts'
import { createShardMap } from '#platform/postgres/shard-map.ts'

/** The release phase: one connection is enough, and one more for what a statement cannot share. */
const CONNECTIONS_MAX = 2

new Command('migrate')
  .description(
    'Brings the schema of every node up to date, makes the shard map if there is none, and the feed partitions\n' +
      'of the coming months. It is the release phase of a deploy: safe to run twice, and at once.',
  )
  .addHelpText('after', '\nReads DATABASE_URL, or the variables that DATABASE_NODES lists (the first is the directory).')
  .action(migrateAll)
  .parseAsync()
  .catch((error: unknown) => {
    process.stderr.write(`migrate: ${error instanceof Error ? error.message : String(error)}\n`)
    process.exitCode = 1
  })

async function migrateAll(): Promise<void> {
  const nodes = loadNodes(process.env)
  const log = createLogger({ process: 'release', level: loadLogLevel(process.env) })
  for (const [index, node] of nodes.entries()) {
    const url = node.directUrl ?? node.url
    // For its words: they name the node, and the setting that helps.
    await probeServer({ name: node.name, url })
    const db = openPool<Database>({ url, max: CONNECTIONS_MAX, applicationName: 'monogram release', preparedStatements: false }, log)
    try {
      const applied = await migrateNode(db, migrations)
      if (index === 0) await createShardMap(db, nodes.map(({ name }) => name))
      await ensurePartitions(db, Date.now())
      const what = applied.length === 0 ? 'up to date' : `applied ${applied.join(', ')}`
      process.stdout.write(`${node.name}: ${what}\n`)
    } finally {
      await db.destroy()
    }
  }
}
