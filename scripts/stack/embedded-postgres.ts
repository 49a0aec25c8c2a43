import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { binariesFor } from './binaries.ts'
import { placeFor, remove, startPostgres, stop } from './postgres-server.ts'
import type { Place, PostgresOptions, PostgresServer } from './postgres-server.ts'

/**
 * Starts a real PostgreSQL of this checkout's own, by the programs that npm installed. All that `startPostgres` says
 * holds.
 */
export function startEmbeddedPostgres(options: PostgresOptions): Promise<PostgresServer> {
  return startPostgres(options, (account) => binariesFor(options.checkout, account))
}

/** Stops the server that `startEmbeddedPostgres` made there and that a start which was killed has left, if any. */
export async function endLeftoverPostgres(checkout: string, directory: string): Promise<void> {
  if (existsSync(join(directory, 'postgres'))) await stop(await embeddedPlace(checkout, directory))
}

/** Stops the server that `startEmbeddedPostgres` made there, if it runs, and removes everything it kept. */
export async function removeEmbeddedPostgres(checkout: string, directory: string): Promise<void> {
  await remove(await embeddedPlace(checkout, directory))
}

function embeddedPlace(checkout: string, directory: string): Promise<Place> {
  return placeFor({ checkout, directory, durable: true }, (account) => binariesFor(checkout, account))
}
