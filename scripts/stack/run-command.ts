import { spawn } from 'node:child_process'

/** The operating-system user that a server runs as, when it is not ourselves. */
export interface Account {
  uid: number
  gid: number
}

export interface CommandOptions {
  account?: Account | undefined
  /** What the command reads from its standard input. */
  input?: string
  /** Variables that it sees beside the plain ones. */
  env?: NodeJS.ProcessEnv
}

/**
 * What a server and its tools see: nothing of ours. A stray PGPORT or LC_ALL of the shell must not change how they
 * behave.
 */
const PLAIN_ENVIRONMENT = { PATH: process.env.PATH ?? '/usr/bin:/bin', LC_ALL: 'C', TZ: 'UTC' }

/**
 * Runs a short command to its end, as `account` if given, in `/`, and gives what it printed. Throws an Error with what
 * it wrote to standard error when it fails.
 */
export async function runCommand(file: string, args: string[], options: CommandOptions): Promise<string> {
  const child = spawn(file, args, { cwd: '/', env: { ...PLAIN_ENVIRONMENT, ...options.env }, stdio: ['pipe', 'pipe', 'pipe'], ...options.account })
  let printed = ''
  let complaints = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => (printed += text))
  child.stderr.setEncoding('utf8').on('data', (text: string) => (complaints += text))
  child.stdin.on('error', () => undefined).end(options.input ?? '')
  return new Promise((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (code, signal) => {
      if (code === 0) resolve(printed)
      else reject(new Error(`${file} ended with ${String(code ?? signal)}.\n${(complaints || printed).trim()}`))
    })
  })
}
