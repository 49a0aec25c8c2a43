import { existsSync } from 'node:fs'
import { startGroup } from './child.ts'
import type { GroupChild } from './child.ts'

const TAP = 'node_modules/tap/dist/esm/run.mjs'

/** There once tap's test class was generated from the plugins of .taprc, and not in a package as npm installs it. */
const GENERATED = 'node_modules/@tapjs/test/test-built/node_modules'

/**
 * Has tap generate its test class from our list of plugins, once per install: tap would do so itself in its first run,
 * but that run's tests still load the old class, with the TypeScript plugin that we leave out. Throws when it fails.
 */
export async function buildTap(onStart: (child: GroupChild) => void): Promise<void> {
  if (existsSync(GENERATED)) return
  console.log('Preparing tap …')
  const build = startGroup(process.execPath, [TAP, 'build'], process.env, 'inherit')
  onStart(build)
  build.child.stdout?.resume()
  const code = await build.ended
  if (code !== 0) throw new Error(`tap build ended with ${code}.`)
}
