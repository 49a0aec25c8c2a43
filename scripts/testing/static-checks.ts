import { startGroup } from './child.ts'
import type { GroupChild } from './child.ts'
import type { Tally } from './tally.ts'

/** What is checked without running anything of ours: scripts of package.json. */
const CHECKS = ['typecheck', 'lint', 'boundaries']

/** Runs every static check at the same time and prints each as it ends; each counts as one. */
export async function runStaticChecks(onStart: (child: GroupChild) => void): Promise<Tally> {
  const results = await Promise.all(CHECKS.map((name) => runCheck(name, onStart)))
  const passed = results.filter(Boolean).length
  return { passed, failed: results.length - passed, skipped: 0 }
}

async function runCheck(name: string, onStart: (child: GroupChild) => void): Promise<boolean> {
  const check = startGroup('npm', ['run', '--silent', name], process.env, 'pipe')
  onStart(check)
  let printed = ''
  for (const stream of [check.child.stdout, check.child.stderr]) {
    stream?.setEncoding('utf8').on('data', (text: string) => (printed += text))
  }
  const succeeded = (await check.ended) === 0
  console.log(`  ${succeeded ? 'ok  ' : 'FAIL'} ${name}`)
  if (!succeeded) console.log(printed.trimEnd())
  return succeeded
}
