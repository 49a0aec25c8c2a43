import { Worker } from 'node:worker_threads'
import type { ClassifyRequest, Scores, ThreadMessage } from './protocol.ts'

/** Scores pictures in a thread of its own, so that the process keeps answering while it does. */
export interface Classifier {
  /**
   * @param pixels a square of `CLASSIFIER_SIDE`, RGB.
   * @throws ClassifierError when it cannot be had now: too many are waiting, it took too long, its thread died.
   */
  classify(pixels: Uint8Array): Promise<Scores>
  /** Resolves once the model has been loaded for the first time. */
  readonly ready: Promise<void>
  /** Ends the thread; whoever still waits gets a ClassifierError. */
  close(): Promise<void>
}

/** The classifier's fault, not the picture's: another try makes sense. */
export class ClassifierError extends Error {
  override readonly name = 'ClassifierError'
}

export interface ClassifierOptions {
  /** What the thread runs. Left out but by tests. */
  readonly entry?: URL
  /** Pictures that may wait, the one being scored among them. */
  readonly queueMax?: number
  /** How long scoring one picture may take before its thread is taken for dead. */
  readonly classifyDeadlineMs?: number
  /** How long a new thread may take to load the model. */
  readonly loadDeadlineMs?: number
  /** The wait before a thread that died is started again. */
  readonly restartDelayMs?: number
  /** Told of what an operator should know: loaded, died, started again. */
  readonly report?: (event: { event: 'loaded' | 'died'; [detail: string]: unknown }) => void
}

const QUEUE_MAX = 64
const CLASSIFY_DEADLINE_MS = 15_000
const LOAD_DEADLINE_MS = 60_000
const RESTART_DELAY_MS = 1_000
/** The thread's own heap; the model's weights lie outside of it. */
const HEAP_MAX_MB = 512

interface Job {
  readonly pixels: Uint8Array
  readonly resolve: (scores: Scores) => void
  readonly reject: (error: ClassifierError) => void
}

/**
 * Starts a classifier. It loads in the background: pictures may come at once and wait. A thread that dies, or hangs
 * past its deadline, costs the picture it was scoring; the others wait for the next thread. One that never loaded costs
 * all of them.
 */
export function startClassifier(options: ClassifierOptions = {}): Classifier {
  const {
    entry = new URL('./thread.ts', import.meta.url),
    queueMax = QUEUE_MAX,
    classifyDeadlineMs = CLASSIFY_DEADLINE_MS,
    loadDeadlineMs = LOAD_DEADLINE_MS,
    restartDelayMs = RESTART_DELAY_MS,
    report = () => undefined,
  } = options
  const waiting: Job[] = []
  const ready = Promise.withResolvers<undefined>()
  let current: Job | undefined
  let thread: Worker | undefined
  let isLoaded = false
  let isClosed = false
  let deadline: NodeJS.Timeout | undefined
  let restart: NodeJS.Timeout | undefined

  function start(): void {
    const started = new Worker(entry, {
      // The libraries print advertisements; they must not end up among our log lines.
      stdout: true,
      stderr: true,
      execArgv: [],
      resourceLimits: { maxOldGenerationSizeMb: HEAP_MAX_MB },
    })
    started.stdout.resume()
    started.stderr.resume()
    started.on('message', (message: ThreadMessage) => receive(message))
    started.on('error', (error: Error) => bury(started, error))
    started.on('exit', (code) => bury(started, new Error(`the thread left with code ${code}`)))
    thread = started
    isLoaded = false
    expectAnswer(loadDeadlineMs)
  }

  /** A thread that says nothing in time is ended; its exit does the rest. */
  function expectAnswer(withinMs: number): void {
    clearTimeout(deadline)
    deadline = setTimeout(() => void thread?.terminate(), withinMs)
  }

  function receive(message: ThreadMessage): void {
    clearTimeout(deadline)
    if (message.kind === 'ready') {
      isLoaded = true
      report({ event: 'loaded', loadMs: message.loadMs })
      ready.resolve(undefined)
    } else {
      const job = current
      current = undefined
      if (message.kind === 'scores') job?.resolve(message.scores)
      else job?.reject(new ClassifierError(message.message))
    }
    next()
  }

  function next(): void {
    if (!isLoaded || current !== undefined) return
    current = waiting.shift()
    if (current === undefined) return
    thread?.postMessage({ pixels: current.pixels } satisfies ClassifyRequest)
    expectAnswer(classifyDeadlineMs)
  }

  /** Called for the error and again for the exit of the same thread: the first call counts. */
  function bury(dead: Worker, cause: Error): void {
    if (thread !== dead) return
    clearTimeout(deadline)
    current?.reject(new ClassifierError('The classifier died while it scored this picture.', { cause }))
    // Without a thread that loads, waiting is no use: those jobs come back later.
    if (!isLoaded) rejectWaiting(new ClassifierError('The classifier did not load.', { cause }))
    current = undefined
    thread = undefined
    isLoaded = false
    if (isClosed) return
    report({ event: 'died', err: cause })
    restart = setTimeout(start, restartDelayMs)
  }

  function rejectWaiting(error: ClassifierError): void {
    for (const job of waiting.splice(0)) job.reject(error)
  }

  start()
  return {
    ready: ready.promise,
    classify(pixels) {
      if (isClosed) return Promise.reject(new ClassifierError('The classifier is closed.'))
      if (waiting.length + (current === undefined ? 0 : 1) >= queueMax) {
        return Promise.reject(new ClassifierError(`${queueMax} pictures wait for the classifier already.`))
      }
      return new Promise((resolve, reject) => {
        waiting.push({ pixels, resolve, reject })
        next()
      })
    },
    async close() {
      isClosed = true
      clearTimeout(restart)
      rejectWaiting(new ClassifierError('The classifier is closed.'))
      await thread?.terminate()
    },
  }
}
