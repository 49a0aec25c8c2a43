import type { Handler } from './transport.ts'

/**
 * A queue's handlers by the name of the event that each takes.
 *
 * @throws TypeError when two of them take the same event
 */
export function handlersByEvent(handlers: readonly Handler[]): Map<string, Handler> {
  const found = new Map(handlers.map((handler) => [handler.event.name, handler]))
  if (found.size !== handlers.length) throw new TypeError('two handlers of one queue take the same event')
  return found
}
