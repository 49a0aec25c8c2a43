import type { Socket } from 'node:net'
import { Connection, type Channel } from 'rabbitmq-client'
import { endWithin } from '../lifecycle/deadline.ts'
import type { Logger } from '../logger/logger.ts'
import { answerWithin } from './broker-silent.ts'

/** `blocked`: connected, but the broker takes no publishes because it is short of memory or disk. */
export type LinkState = 'up' | 'blocked' | 'down'

/** A connection to the broker that comes back by itself for as long as it is not closed. */
export interface Link {
  readonly state: LinkState
  /** Calls `listener` at every change of state, until the function it gives is called. */
  onChange(listener: (state: LinkState) => void): () => void
  /** Settles with the first state that is known: `up`, or the error of the first try. */
  readonly firstTry: Promise<Error | undefined>
  /**
   * Opens a channel; its errors are logged, its end is its `close` event.
   * @throws Error when there is no connection within `ACQUIRE_MS`, or no answer
   */
  channel(): Promise<Channel>
  /** Whatever is sent on it from here to the end of this turn leaves together. */
  gather(): void
  /** Closes in an orderly way if that is possible within `CLOSE_MS`, else at once. */
  close(): Promise<void>
}

export interface LinkOptions {
  /** amqp:// or amqps://, with user, password and virtual host. */
  readonly url: string
  /** Names the connection to whoever looks at the broker. */
  readonly name: string
  readonly log: Logger
}

/** The library's 60 s would mean two minutes to notice a peer that is gone. */
const HEARTBEAT_SECONDS = 10
const CONNECT_MS = 5_000
const ACQUIRE_MS = 5_000
const RETRY_MS_MIN = 200
const RETRY_MS_MAX = 5_000
const CLOSE_MS = 2_000
/** RabbitMQ's own limit. The headers of a message must fit into one frame, and the library's 8 KB are soon full. */
const FRAME_BYTES_MAX = 131_072

/** Opens a link; the first try to connect is on its way when this returns. */
export function openLink({ url, name, log }: LinkOptions): Link {
  const connection = new Connection({
    url,
    connectionName: name,
    heartbeat: HEARTBEAT_SECONDS,
    connectionTimeout: CONNECT_MS,
    acquireTimeout: ACQUIRE_MS,
    retryLow: RETRY_MS_MIN,
    retryHigh: RETRY_MS_MAX,
    frameMax: FRAME_BYTES_MAX,
  })
  const listeners = new Set<(state: LinkState) => void>()
  const firstTry = Promise.withResolvers<Error | undefined>()
  let state: LinkState = 'down'
  let closing: Promise<void> | undefined
  let gathering: Socket | undefined

  function change(next: LinkState): void {
    if (next === state) return
    state = next
    for (const listener of listeners) listener(next)
  }

  connection.on('connection', () => {
    log.info({ link: name }, 'connected to the broker')
    firstTry.resolve(undefined)
    change('up')
  })
  connection.on('connection.blocked', (reason) => {
    log.warn({ link: name, reason }, 'the broker takes no publishes')
    change('blocked')
  })
  connection.on('connection.unblocked', () => {
    log.info({ link: name }, 'the broker takes publishes again')
    change('up')
  })
  // Told once per loss, not at every try to reconnect.
  connection.on('error', (error: Error) => {
    if (closing !== undefined) return
    log.warn({ err: error, link: name }, 'no connection to the broker; trying again')
    firstTry.resolve(error)
    change('down')
  })

  function gather(): void {
    const socket = socketOf(connection)
    if (socket === undefined || socket === gathering) return
    gathering = socket
    socket.cork()
    process.nextTick(() => {
      gathering = undefined
      socket.uncork()
    })
  }

  async function close(): Promise<void> {
    // The library waits for every channel to be closed, and never settles if the connection is destroyed meanwhile.
    await endWithin(connection.close(), CLOSE_MS)
    connection.unsafeDestroy()
    change('down')
  }

  return {
    get state() {
      return state
    },
    onChange(listener) {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    firstTry: firstTry.promise,
    async channel() {
      const acquired = connection.acquire({ emitErrorsFromChannel: true })
      const channel = await answerWithin(acquired, ACQUIRE_MS, () => 'opening a channel').catch((error: unknown) => {
        // Should it come after all, nobody has a use for it.
        acquired.then((late) => late.close()).catch(() => undefined)
        throw error
      })
      channel.on('error', (error: Error) => log.warn({ err: error, link: name }, 'the broker closed a channel'))
      // A loss of the connection ends its channels first, and the library tells of the loss only then.
      channel.once('close', () => {
        // While we gather, the library takes itself for blocked.
        if (gathering === undefined && !connection.ready) change('down')
      })
      return channel
    },
    gather,
    close: () => (closing ??= close()),
  }
}

/**
 * The socket of now, which the library keeps to itself: it writes every message by a system call of its own, which is a
 * tenth of all that publishing costs us. Were it not there, we would only be slower.
 */
function socketOf(connection: Connection): Socket | undefined {
  return (connection as { _socket?: Socket })._socket
}
