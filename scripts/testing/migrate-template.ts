import { startGroup } from './child.ts'
import type { GroupChild } from './child.ts'

/** Runs the release command on the database at `url`, as a deploy would. Throws when it fails, after what it printed. */
export async function migrateTemplate(url: string, onStart: (child: GroupChild) => void): Promise<void> {
  const migration = startGroup(process.execPath, ['scripts/migrate.ts'], { ...process.env, DATABASE_URL: url, LOG_LEVEL: 'warn' }, 'inherit')
  onStart(migration)
  migration.child.stdout?.pipe(process.stdout, { end: false })
  const code = await migration.ended
  if (code !== 0) throw new Error(`scripts/migrate.ts ended with ${code}.`)
}
