import { spawn } from 'node:child_process'
import { Socket } from 'node:net'

export interface Guard {
  /** From now on nothing is ended: the processes have been, or others may have their numbers soon. */
  release: () => void
}

/**
 * A process that waits for our end, whatever brings it (tap kills a file that takes too long), and then sends the signal
 * to the processes.
 */
export function endWithUs(pids: readonly number[], signal: 'KILL' | 'QUIT'): Guard {
  const script = 'signal=$1; shift; cat > /dev/null; kill "-$signal" "$@"'
  const guard = spawn('sh', ['-c', script, 'sh', signal, ...pids.map(String)], { stdio: ['pipe', 'ignore', 'ignore'], detached: true })
  guard.unref()
  // Our end of its standard input closes with us; until then it must not keep us.
  if (guard.stdin instanceof Socket) guard.stdin.unref()
  return { release: () => guard.kill() }
}
