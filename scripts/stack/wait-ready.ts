const READY_DEADLINE_MS = 60_000
const ATTEMPT_DEADLINE_MS = 2000
const POLL_MS = 100

/** Resolves when `GET <url>/readyz` answers 200. Throws when it does not within a minute, or when `signal` aborts. */
export async function waitReady(url: string, signal: AbortSignal): Promise<void> {
  const deadline = performance.now() + READY_DEADLINE_MS
  while (!(await isReady(url))) {
    signal.throwIfAborted()
    if (performance.now() > deadline) throw new Error(`${url}/readyz did not answer 200 within ${READY_DEADLINE_MS} ms.`)
    await new Promise((resolve) => setTimeout(resolve, POLL_MS))
  }
}

async function isReady(url: string): Promise<boolean> {
  const answer = await fetch(`${url}/readyz`, { signal: AbortSignal.timeout(ATTEMPT_DEADLINE_MS) }).catch(() => undefined)
  await answer?.body?.cancel()
  return answer?.status === 200
}
