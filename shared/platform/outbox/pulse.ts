/** A wait that can be cut short: what a polling loop sleeps on. */
export interface Pulse {
  /** Ends the present wait or, if there is none, the next one. */
  fire(): void
  /** Settles after `ms` milliseconds, or when fired; without `ms` only when fired. */
  wait(ms?: number): Promise<void>
}

/** Makes a pulse for one waiter. */
export function createPulse(): Pulse {
  let fired = false
  let end: (() => void) | undefined
  return {
    fire() {
      fired = true
      end?.()
    },
    async wait(ms) {
      if (!fired) {
        const { promise, resolve } = Promise.withResolvers<undefined>()
        end = () => resolve(undefined)
        const timer = ms === undefined ? undefined : setTimeout(end, ms)
        await promise
        clearTimeout(timer)
        end = undefined
      }
      fired = false
    },
  }
}
