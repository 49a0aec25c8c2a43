import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdir, writeFile } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import { text } from 'node:stream/consumers'
import t, { type Test } from 'tap'
import { installLine, type NeededPackage } from '../../../scripts/stack/packages.ts'
import { temporaryDirectory } from '../../support/temporary-directory.ts'

/** Whoever may not install what is missing is told at once what to type, and nothing is tried. */

const LIBRARY = new URL('../../../scripts/stack/packages.ts', import.meta.url).href
/** Somebody who is not root, whether there is such a user or not. */
const NOBODY = 65_534
const MISSING: readonly NeededPackage[] = [
  { command: 'monogram-missing-one', debian: 'missing-one', homebrew: 'one' },
  { command: 'monogram-missing-two', debian: 'missing-two', homebrew: 'two' },
]
const REFUSES = '#!/bin/sh\nexit 1\n'
/** Lets itself be asked, and says what else it was told to do, in place of doing it. */
const ALLOWS = '#!/bin/sh\n[ "$*" = "--non-interactive true" ] && exit 0\necho "told to run: $*"\nexit 7\n'
const NEVER = '#!/bin/sh\necho "ran as if we might" >&2\nexit 99\n'

/** Asks for packages as an ordinary user, on a Debian with that sudo. @returns all that was said */
async function ensure(t: Test, needed: readonly NeededPackage[], sudo: string): Promise<string> {
  const directory = await temporaryDirectory(t)
  const programs = join(directory, 'bin')
  await mkdir(programs)
  for (const [name, script] of [['apt-get', NEVER], ['flock', NEVER], ['sudo', sudo]] as const) await writeFile(join(programs, name), script, { mode: 0o755 })
  for (const path of [directory, programs]) await chmod(path, 0o755)
  const script = `import { ensurePackages } from ${JSON.stringify(LIBRARY)}
    if (process.getuid() === 0) process.setgroups([]), process.setgid(${NOBODY}), process.setuid(${NOBODY})
    await ensurePackages(${JSON.stringify(needed)}, (line) => console.log(line)).then(() => console.log('all is there'), (error) => console.log(error.message))`
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    env: { PATH: `${programs}${delimiter}${process.env.PATH ?? ''}` },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const [said] = await Promise.all([text(child.stdout), once(child, 'close')])
  return said
}

t.test('without root or a sudo that asks no password it says the exact command, and runs nothing', async (t) => {
  t.equal(
    await ensure(t, MISSING, REFUSES),
    `monogram-missing-one, monogram-missing-two not found. Install with:
  sudo apt-get update && sudo apt-get install --yes --no-install-recommends missing-one missing-two\n`,
  )
})

t.test('without any sudo the command is for root', async (t) => {
  t.equal(installLine(['missing-one'], false), 'apt-get update && apt-get install --yes --no-install-recommends missing-one')
})

t.test('with a sudo that asks no password it says what it installs, and installs it', async (t) => {
  const said = await ensure(t, MISSING, ALLOWS)
  t.match(said, /^Installing missing-one, missing-two with apt-get /)
  t.match(said, /told to run: --non-interactive flock --timeout 300 \S+ sh -c [^]* install --no-install-recommends [^]* sh missing-one missing-two\n$/)
})

t.test('when all is there, nobody is asked', async (t) => {
  t.equal(await ensure(t, [{ command: 'sh', debian: 'dash', homebrew: 'dash' }], NEVER), 'all is there\n')
})
