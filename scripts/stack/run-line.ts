import { spawn } from 'node:child_process'

/**
 * Runs a command line of the Procfile (or a script of ours) to its end in a process group of its own, its output going
 * where ours goes. Throws with its exit code when it fails; when `signal` aborts it is told to stop first.
 */
export async function runLine(command: string, env: NodeJS.ProcessEnv, signal: AbortSignal): Promise<void> {
  const child = spawn('/bin/sh', ['-c', `exec ${command}`], { env, detached: true, stdio: ['ignore', 'inherit', 'inherit'] })
  const stop = (): void => void child.kill('SIGTERM')
  signal.addEventListener('abort', stop)
  const ended = await new Promise<number | string>((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (code, killedBy) => resolve(code ?? killedBy ?? 1))
  })
  signal.removeEventListener('abort', stop)
  signal.throwIfAborted()
  if (ended !== 0) throw new Error(`\`${command}\` ended with ${ended}.`)
}
