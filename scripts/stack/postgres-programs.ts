import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { Binaries } from './binaries.ts'
import { ensurePackages, findProgram } from './packages.ts'
import type { NeededPackage } from './packages.ts'

/** The programs of a PostgreSQL that the system's packages brought: npm's has none that makes replicas. */
export interface Programs extends Binaries {
  pg_basebackup: string
  pg_receivewal: string
}

export const POSTGRESQL_PACKAGE: NeededPackage = {
  command: 'postgres',
  debian: 'postgresql',
  homebrew: 'postgresql@15',
  // Debian keeps the server's programs out of the PATH, a directory for each version.
  places: [
    '/usr/lib/postgresql/*/bin',
    '/opt/homebrew/opt/postgresql@*/bin',
    '/usr/local/opt/postgresql@*/bin',
    '/home/linuxbrew/.linuxbrew/opt/postgresql@*/bin',
  ],
}

/** The programs of the newest PostgreSQL of the system; its package is installed first when there is none. */
export async function systemPrograms(): Promise<Programs> {
  await ensurePackages([POSTGRESQL_PACKAGE])
  const postgres = await findProgram(POSTGRESQL_PACKAGE)
  if (postgres === undefined) throw new Error('PostgreSQL is not there.')
  const beside = (name: string): string => join(dirname(postgres), name)
  const programs = {
    postgres,
    initdb: beside('initdb'),
    pg_ctl: beside('pg_ctl'),
    pg_basebackup: beside('pg_basebackup'),
    pg_receivewal: beside('pg_receivewal'),
  }
  const missing = Object.values(programs).find((program) => !existsSync(program))
  if (missing !== undefined) throw new Error(`There is ${postgres}, but no ${missing}.`)
  return programs
}
