import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { findCommand } from '../stack/packages.ts'

const run = promisify(execFile)

export interface CPublish {
  readonly url: string
  readonly exchange: string
  readonly key: string
  readonly bytes: number
  readonly count: number
  readonly window: number
}

/**
 * Compiles the publisher in C against Debian's librabbitmq-dev.
 *
 * @returns what publishes with it and gives messages per second; undefined, with a line that says why, where there is
 *   no compiler or no library
 */
export async function buildLibrabbitmq(directory: string): Promise<((options: CPublish) => Promise<number>) | undefined> {
  const program = join(directory, 'librabbitmq')
  const compiler = await findCommand('cc')
  try {
    if (compiler === undefined) throw new Error('no C compiler')
    await run(compiler, ['-O2', '-o', program, join(import.meta.dirname, 'librabbitmq.c'), '-lrabbitmq'])
  } catch (error) {
    console.log(`librabbitmq is left out (apt-get install gcc librabbitmq-dev): ${String(error).split('\n')[0] ?? ''}`)
    return undefined
  }
  return async ({ url, exchange, key, bytes, count, window }) => {
    const { hostname, port, pathname, username, password } = new URL(url)
    const vhost = pathname === '' || pathname === '/' ? '/' : decodeURIComponent(pathname.slice(1))
    const words = [hostname, port, vhost, decodeURIComponent(username), decodeURIComponent(password), exchange, key, bytes, count, window]
    const { stdout } = await run(program, words.map(String))
    return count / Number(stdout)
  }
}
