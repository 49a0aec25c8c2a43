import { Server } from 'memjs'
import { cutAnswers, type Answer } from './answers.ts'
import type { Opaque } from './packets.ts'
import type { CacheServer } from './server-list.ts'

const KEEP_ALIVE_SECONDS = 30
/** memjs's own limit. Ours are shorter: nobody connects but to send a request, which has a deadline. */
const CONNECT_SECONDS = 10
/** Beyond its deadline, for an answer that keeps coming. */
const LATE_MS_MAX = 250
const OPAQUE_COUNT = 2 ** 32
const EMPTY = Buffer.alloc(0)

/** Answers by the place of their request; a quiet request may have none, the last always has one. */
export type Answers = readonly (Answer | undefined)[]

/**
 * One connection, from its opening to its first failure; nothing of it outlives that. Where memjs keeps half a
 * response and its numbers for the next socket, we take a new memjs Server for each.
 */
export interface Connection {
  readonly isOpen: boolean
  /** Requests that wait for an answer. */
  readonly pending: number
  /**
   * Sends `count` requests, whose opaques count up from the one that `encode` is given; those of one turn of the
   * event loop's microtasks share one write.
   * @param patienceMs after which their answer is late; the connection's deadline when not said
   * @returns their answers; undefined once the connection has failed, which it does when an answer is late
   */
  request(count: number, encode: (first: Opaque) => Buffer, patienceMs?: number): Promise<Answers | undefined>
  close(): void
}

interface Exchange {
  readonly first: Opaque
  readonly answers: (Answer | undefined)[]
  readonly dueAtMs: number
  readonly patienceMs: number
  /** The place of the next answer: they come in order. */
  next: number
  resolve(answers: Answers | undefined): void
}

export interface ConnectionOptions {
  /** From the call of `request` to its last answer, connecting and signing in included. */
  readonly deadlineMs: number
  /** Called once, unless `close` was; `wasNeeded`: requests were waiting. */
  readonly onFailure: (error: Error, wasNeeded: boolean) => void
  /** Where the numbering begins; for tests. */
  readonly firstOpaque?: Opaque
}

/** Opens a connection by memjs, signing in by SASL when the server has credentials. */
export function openConnection(server: CacheServer, options: ConnectionOptions): Connection {
  const { deadlineMs } = options
  const memjs = new Server(server.host, server.port, undefined, undefined, {
    timeout: deadlineMs / 1_000,
    conntimeout: CONNECT_SECONDS,
    keepAlive: true,
    keepAliveDelay: KEEP_ALIVE_SECONDS,
  })
  // memjs looks into the environment by itself where it was given none.
  memjs.username = server.credentials?.username
  memjs.password = server.credentials?.password

  const exchanges: Exchange[] = []
  let isOpen = true
  let isReady = false
  let unsent: Buffer[] = []
  let isFlushing = false
  let nextOpaque = options.firstOpaque ?? 0
  let timer: NodeJS.Timeout | undefined
  let pending = 0
  let bytesReceived = 0

  function end(): void {
    isOpen = false
    clearTimeout(timer)
    unsent = []
    socket?.destroy()
    pending = 0
    for (const exchange of exchanges.splice(0)) exchange.resolve(undefined)
  }

  function fail(error: Error | string): void {
    if (!isOpen) return
    const wasNeeded = exchanges.length > 0 || !isReady
    end()
    options.onFailure(typeof error === 'string' ? new Error(error) : error, wasNeeded)
  }

  function flush(): void {
    isFlushing = false
    if (!isReady || !isOpen || unsent.length === 0) return
    const packets = unsent
    unsent = []
    socket?.write(packets.length === 1 ? (packets[0] ?? EMPTY) : Buffer.concat(packets))
  }

  function watchDeadline(): void {
    const [oldest] = exchanges
    if (timer !== undefined || oldest === undefined) return
    timer = setTimeout(checkDeadline, Math.max(oldest.dueAtMs - performance.now(), 0))
  }

  /**
   * When this process itself was too busy to read, the answer may lie in the socket: the poll phase comes between
   * the timer and the immediate, and reads some of it. As long as each look brings more, the server is not late.
   */
  function checkDeadline(): void {
    const bytesBefore = bytesReceived
    setImmediate(() => {
      timer = undefined
      const [oldest] = exchanges
      if (oldest === undefined || oldest.dueAtMs > performance.now()) watchDeadline()
      else if (bytesReceived > bytesBefore && performance.now() - oldest.dueAtMs < LATE_MS_MAX) {
        timer = setTimeout(checkDeadline, 0)
      } else fail(new Error(`no answer within ${oldest.patienceMs} ms`))
    })
  }

  function take(answer: Answer): boolean {
    const [oldest] = exchanges
    const place = oldest === undefined ? -1 : (answer.opaque - oldest.first) >>> 0
    if (oldest === undefined || place < oldest.next || place >= oldest.answers.length) {
      fail(new Error('an answer to no request'))
      return false
    }
    oldest.answers[place] = answer
    oldest.next = place + 1
    if (oldest.next < oldest.answers.length) return true
    exchanges.shift()
    pending -= oldest.answers.length
    oldest.resolve(oldest.answers)
    return true
  }

  /** Until the server has let us in, its answers are for memjs. */
  const signIn = memjs.responseHandler.bind(memjs)
  const cut = cutAnswers(
    (answer) => {
      if (isReady) return take(answer)
      signIn(answer.bytes.subarray(answer.start, answer.end))
      return isOpen
    },
    (reason) => fail(reason),
  )
  memjs.error = fail
  memjs.respond = () => fail('an answer to no request')
  memjs.responseHandler = (chunk) => {
    bytesReceived += chunk.length
    if (isOpen) cut(chunk)
  }
  memjs.sock(false, () => {
    isReady = true
    flush()
  })
  const socket = memjs._socket
  socket?.setNoDelay(true)
  // A server that hangs up politely is no error to memjs, which then waits for ever.
  socket?.once('close', () => fail(new Error('the connection was closed')))

  return {
    get isOpen() {
      return isOpen
    },
    get pending() {
      return pending
    },
    request(count, encode, patienceMs = deadlineMs) {
      if (!isOpen) return Promise.resolve(undefined)
      const first = nextOpaque
      nextOpaque = (first + count) % OPAQUE_COUNT
      unsent.push(encode(first))
      if (!isFlushing) {
        isFlushing = true
        process.nextTick(flush)
      }
      const { promise, resolve } = Promise.withResolvers<Answers | undefined>()
      const answers = new Array<Answer | undefined>(count).fill(undefined)
      exchanges.push({ first, answers, next: 0, dueAtMs: performance.now() + patienceMs, patienceMs, resolve })
      pending += count
      watchDeadline()
      return promise
    },
    close: end,
  }
}
