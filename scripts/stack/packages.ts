import { constants, globSync } from 'node:fs'
import { access } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import { spawn } from 'node:child_process'

/** A program that a server of the full stack needs, and the packages that bring it. */
export interface NeededPackage {
  readonly command: string
  readonly debian: string
  readonly homebrew: string
  /** Directories to look in before all others, as glob patterns; of several the one with the highest number. */
  readonly places?: readonly string[]
}

/** Where servers' programs are besides the PATH, which for an ordinary user lacks the sbin directories. */
const SYSTEM_DIRECTORIES = ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin', '/opt/homebrew/bin', '/opt/homebrew/sbin']
/** How long we wait for another installation, ours or somebody's. */
const LOCK_SECONDS = 300
const LOCK_FILE = '/run/lock/monogram-packages.lock'
/**
 * Debian's packages start their servers when they are installed, unless policy-rc.d forbids it (Debian policy, 9.3.3):
 * one is put there for the time of the installation, if there is none.
 */
const INSTALL_SCRIPT = `
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  trap 'rm -f "$policy"' EXIT
  trap 'exit 1' HUP INT TERM
  printf '#!/bin/sh\\nexit 101\\n' > "$policy" && chmod 755 "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
apt='apt-get --quiet --yes -o DPkg::Lock::Timeout=${LOCK_SECONDS}'
$apt update && $apt install --no-install-recommends "$@"
`

/** The full path of a package's program, or undefined when it is nowhere. */
export async function findProgram({ command, places = [] }: NeededPackage): Promise<string | undefined> {
  const byNumber = new Intl.Collator('en', { numeric: true })
  for (const pattern of places) {
    const [newest] = globSync(join(pattern, command)).sort(byNumber.compare).reverse()
    if (newest !== undefined) return newest
  }
  return findCommand(command)
}

/** The full path of a program, or undefined when it is nowhere. */
export async function findCommand(command: string): Promise<string | undefined> {
  for (const directory of [...(process.env.PATH ?? '').split(delimiter), ...SYSTEM_DIRECTORIES]) {
    const file = join(directory, command)
    if (directory !== '' && (await access(file, constants.X_OK).then(() => true, () => false))) return file
  }
  return undefined
}

/**
 * Installs what is missing: by apt-get on Debian, which takes root or a sudo without a password, by brew on a Mac.
 * No service is started. `say` gets a line that tells what is about to be installed. Does nothing when all commands are
 * there.
 * @throws Error with the exact command to run when it may not install, or when the installation failed
 */
export async function ensurePackages(needed: readonly NeededPackage[], say: (line: string) => void = () => undefined): Promise<void> {
  const missing: NeededPackage[] = []
  for (const one of needed) if ((await findProgram(one)) === undefined) missing.push(one)
  if (missing.length === 0) return
  const commands = missing.map(({ command }) => command).join(', ')
  if ((await findCommand('apt-get')) !== undefined) await installOnDebian(missing.map(({ debian }) => debian), commands, say)
  else if ((await findCommand('brew')) !== undefined) await installByHomebrew(missing.map(({ homebrew }) => homebrew), commands, say)
  else throw new Error(`${commands} not found, and neither apt-get nor brew to install them with.`)
  for (const one of missing) {
    if ((await findProgram(one)) === undefined) throw new Error(`${one.command} is still not there after its package was installed.`)
  }
}

async function installOnDebian(packages: readonly string[], commands: string, say: (line: string) => void): Promise<void> {
  const asRoot = await rootPrefix()
  if (asRoot === undefined) {
    const hasSudo = (await findCommand('sudo')) !== undefined
    throw new Error(`${commands} not found. Install ${hasSudo ? '' : 'as root '}with:\n  ${installLine(packages, hasSudo)}`)
  }
  say(`Installing ${packages.join(', ')} with apt-get (a minute or two the first time) …`)
  await run([...asRoot, 'flock', '--timeout', String(LOCK_SECONDS), LOCK_FILE, 'sh', '-c', INSTALL_SCRIPT, 'sh', ...packages])
}

/** What somebody who may has to type. */
export function installLine(packages: readonly string[], hasSudo: boolean): string {
  const asRoot = hasSudo ? 'sudo ' : ''
  return `${asRoot}apt-get update && ${asRoot}apt-get install --yes --no-install-recommends ${packages.join(' ')}`
}

async function installByHomebrew(packages: readonly string[], commands: string, say: (line: string) => void): Promise<void> {
  say(`Installing ${packages.join(', ')} with brew (some minutes the first time) …`)
  const line = ['brew', 'install', '--quiet', ...packages]
  await run(line).catch((error: unknown) => {
    throw new Error(`${commands} not found, and \`${line.join(' ')}\` failed.`, { cause: error })
  })
}

/** The words to put before a command so that it runs as root; undefined when we may not. */
async function rootPrefix(): Promise<string[] | undefined> {
  if (process.getuid?.() === 0) return []
  if ((await findCommand('sudo')) === undefined) return undefined
  return run(['sudo', '--non-interactive', 'true']).then(() => ['sudo', '--non-interactive'], () => undefined)
}

/** Runs a command to its end; its output is told only when it fails. */
async function run(words: readonly string[]): Promise<void> {
  const [file = '', ...args] = words
  const child = spawn(file, args, { stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text: string) => (output += text))
  await new Promise<void>((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (code) => {
      if (code === 0) resolve()
      else reject(new Error(`\`${words.join(' ')}\` ended with ${code ?? 'a signal'}.\n${output.trim()}`))
    })
  })
}
