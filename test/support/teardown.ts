import type { Test } from 'tap'

const cleanups = new WeakMap<Test, (() => Promise<unknown>)[]>()

/**
 * Like `t.teardown`, for work that may throw to fail its test: last to first, but each one runs whatever the others
 * did. (tap's own gives up the rest at the first that throws, and what they would have stopped then runs on.)
 */
export function onTeardown(t: Test, cleanup: () => Promise<unknown>): void {
  const known = cleanups.get(t)
  if (known !== undefined) {
    known.push(cleanup)
    return
  }
  const stack = [cleanup]
  cleanups.set(t, stack)
  t.teardown(async () => {
    const errors: unknown[] = []
    for (const next of stack.reverse()) await next().catch((error: unknown) => errors.push(error))
    if (errors.length > 0) throw new Error(errors.map((error) => (error instanceof Error ? error.message : String(error))).join('\n'))
  })
}
