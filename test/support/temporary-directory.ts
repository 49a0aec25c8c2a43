import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import { onTeardown } from './teardown.ts'

/** A directory of this test's own, removed at teardown. */
export async function temporaryDirectory(t: Test): Promise<string> {
  const directory = await mkdtemp(join(process.env.MONOGRAM_TEST_DIRECTORY ?? tmpdir(), 'test-'))
  onTeardown(t, () => rm(directory, { recursive: true, force: true }))
  return directory
}
