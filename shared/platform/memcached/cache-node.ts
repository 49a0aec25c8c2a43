import type { Logger } from '../logger/logger.ts'
import { casOf, valueStart, type Answer } from './answers.ts'
import type { CacheMetrics } from './cache-metrics.ts'
import { openConnection, type Answers, type Connection } from './connection.ts'
import { unseal, type Envelope } from './envelope.ts'
import { createOwedDeletes } from './owed-deletes.ts'
import { encodeDelete, encodeGets, isDeleted, isOk, type Opaque } from './packets.ts'
import type { CacheServer } from './server-list.ts'

/** One memcached server behind a circuit breaker: while the breaker is open nothing waits for it. */
export interface CacheNode {
  readonly name: string
  /** True while the node is left alone because it failed; probes find out when it is back. */
  readonly isBroken: boolean
  /**
   * Reads keys; all that are asked for in one tick travel as one multi-get, each key once, and are unwrapped once.
   * @returns in the order of the keys; undefined when the node is down
   */
  getMany(keys: readonly { readonly wireKey: string }[]): Promise<readonly Found[] | undefined>
  /** Sends one command and gives its answer with the connection that it came on; undefined when the node is down. */
  command(encode: (opaque: Opaque) => Buffer): Promise<Reply | undefined>
  /** The same on the connection given, or not at all: what a lease token needs. */
  commandOn(connection: Connection, encode: (opaque: Opaque) => Buffer): Promise<Answer | undefined>
  /**
   * Deletes a key. If the answer is missing the node is broken, and a fresh connection tries again at once, which this
   * waits for, a little longer than reads would. Also while the node is not read its deletes go there as long as it
   * answers; when it does not, nobody waits, but the node is not read again until the delete is done.
   * @returns whether the server confirmed it
   */
  delete(wireKey: string): Promise<boolean>
  /** Leaves the node alone until what is written down as not deleted has been deleted. */
  distrust(): void
  close(): void
}

/** What a node has for a key; corrupt: bytes that are not ours, and the CAS that they have. */
export type Found = Envelope | { readonly kind: 'missing' } | { readonly kind: 'corrupt'; readonly cas: Buffer }

export interface Reply {
  readonly message: Answer
  readonly connection: Connection
}

export interface CacheNodeOptions {
  readonly deadlineMs: number
  readonly log: Logger
  readonly metrics: CacheMetrics
  /** Keys on the wire, of this node, that some process may not have deleted yet; asked for before it is read again. */
  readonly written: (node: CacheNode) => AsyncIterable<readonly string[]>
  /** See `RELAPSE_STEPS_MS`; for tests. */
  readonly relapseStepsMs?: readonly number[]
  /** Where a connection's numbering begins; for tests. */
  readonly firstOpaque?: Opaque
}

/** Keys of one multi-get; more go in several, on the same connection. */
const MULTI_GET_KEYS_MAX = 500
/** Requests that wait on one connection; more are answered as by a node that is down. */
const PENDING_REQUESTS_MAX = 20_000
/** How long a broken node is left alone before each further probe; the last step repeats. */
const PROBE_STEPS_MS = [50, 100, 200, 400, 800]
/**
 * How much longer than a read the first probe waits, and with it deletes: 100 ms together. So in an outage of seconds
 * less than one write in a hundred is late by more than 50 ms, and a server that was only slow has confirmed all of them.
 */
const PATIENCE = 3
/** On the connection that is there, and on a fresh one. */
const DELETE_TRIES = 2

/**
 * How long a node is not read, by how often in a row it failed soon after it had come back, however well it answers
 * probes; the last step repeats. A node that drips is quick enough for a probe, and makes each reader wait.
 */
const RELAPSE_STEPS_MS = [0, 400, 1_600, 3_200]
/** A node that was read for so long without a failure has recovered: one late answer now and then is no relapse. */
const RECOVERED_AFTER_MS = 3_000

const MISSING: Found = { kind: 'missing' }

interface Batch {
  readonly places: Map<string, number>
  readonly found: Promise<readonly Found[] | undefined>
}

/**
 * Makes a node; it connects at the first use. One missed deadline or lost connection breaks it: everything that waits
 * is given up at once, and only probes of our own, on fresh connections, wait for the server again. A probe carries the
 * deletes that the node missed, so that nothing is read from it that a delete should have taken away.
 */
export function createCacheNode(server: CacheServer, options: CacheNodeOptions): CacheNode {
  const { deadlineMs, log, metrics, relapseStepsMs = RELAPSE_STEPS_MS } = options
  const owed = createOwedDeletes(() => options.written(node))
  let connection: Connection | undefined
  let batch: Batch | undefined
  let isBroken = false
  let isClosed = false
  let probes = 0
  let relapses = 0
  /** When it was last let back; undefined before it has ever failed. */
  let backAtMs: number | undefined
  /** Not before, whatever it answers. */
  let readableAtMs = 0
  /** Why it is not read, as last logged. */
  let reason = ''
  let probeTimer: NodeJS.Timeout | undefined
  /** The probe under way, until the server has confirmed what this process owes or has not. */
  let settling: Promise<void> | undefined
  /** Since it broke a probe has failed, and none after it has succeeded: no delete waits for it. */
  let isGivenUp = false

  function open(onFailure: (error: Error, wasNeeded: boolean) => void): Connection {
    return openConnection(server, {
      deadlineMs,
      onFailure,
      ...(options.firstOpaque === undefined ? {} : { firstOpaque: options.firstOpaque }),
    })
  }

  function onFailure(error: Error, wasNeeded: boolean): void {
    connection = undefined
    // A server that drops an idle connection is not sick; the next use opens another.
    if (!wasNeeded) return
    metrics.failure(server.name, 'connection')
    if (isBroken) isGivenUp = true
    else breakNode(error)
  }

  function breakNode(error: Error): void {
    if (isBroken || isClosed) return
    isBroken = true
    isGivenUp = false
    probes = 0
    const nowMs = performance.now()
    relapses = backAtMs !== undefined && nowMs - backAtMs < RECOVERED_AFTER_MS ? relapses + 1 : 0
    readableAtMs = nowMs + (relapseStepsMs[Math.min(relapses, relapseStepsMs.length - 1)] ?? 0)
    connection?.close()
    connection = undefined
    metrics.breaker(server.name, true)
    reason = error.message
    log.warn({ err: error, node: server.name }, 'a cache node failed; reads go to the database')
    scheduleProbe()
  }

  function scheduleProbe(): void {
    if (isClosed) return
    const stepMs = PROBE_STEPS_MS[Math.min(probes, PROBE_STEPS_MS.length - 1)] ?? 0
    const delayMs = Math.max(stepMs, Math.ceil(readableAtMs - performance.now()))
    probes++
    clearTimeout(probeTimer)
    probeTimer = setTimeout(probe, delayMs)
    probeTimer.unref()
  }

  /**
   * Half open: what this process owes, or a no-op, which no read waits for. Until the node is read again the connection
   * carries nothing else but deletes; afterwards it is the node's.
   */
  function probe(): void {
    clearTimeout(probeTimer)
    let failure = new Error('deletes were not confirmed')
    const trial = (connection ??= open((error, wasNeeded) => {
      failure = error
      if (connection === trial) onFailure(error, wasNeeded)
    }))
    const startMs = performance.now()
    settling = owed.settle(trial, patience()).then((isSettled) => {
      settling = undefined
      isGivenUp = !isSettled
      if (!isSettled) {
        readmit(trial, false, failure)
        return
      }
      const nowMs = performance.now()
      const isTooEarly = nowMs < readableAtMs
      if (isTooEarly || nowMs - startMs > deadlineMs) {
        logReason(new Error(isTooEarly ? 'it failed soon after it had come back' : 'it answers too late for reads'))
        scheduleProbe()
        return
      }
      void owed.settleAll(trial).then((isWhole) => readmit(trial, isWhole, failure), (error: unknown) => readmit(trial, false, error))
    })
  }

  /** How long it may take to confirm deletes, in ms. */
  function patience(): number {
    return isBroken && !isGivenUp ? deadlineMs * PATIENCE : deadlineMs
  }

  /** Lets the node be read again if all that it missed has been made up for; otherwise there will be another probe. */
  function readmit(trial: Connection, isWhole: boolean, failure: unknown): void {
    if (isClosed || !isBroken) return
    // Empty now, in this very turn: a delete that came while we were on our way back would be forgotten.
    if (isWhole && owed.isEmpty && trial.isOpen) {
      isBroken = false
      backAtMs = performance.now()
      metrics.breaker(server.name, false)
      log.info({ node: server.name }, 'a cache node is back')
      return
    }
    trial.close()
    if (connection === trial) connection = undefined
    logReason(failure)
    scheduleProbe()
  }

  /** Once for each reason in a row: there are probes all the time. */
  function logReason(failure: unknown): void {
    const message = failure instanceof Error ? failure.message : String(failure)
    if (message === reason) return
    reason = message
    log.warn({ err: failure, node: server.name }, 'a cache node is still not read')
  }

  /** The connection to use now, or undefined when the node is not to be used. */
  function usable(pendingMax = PENDING_REQUESTS_MAX): Connection | undefined {
    if (isBroken || isClosed) return undefined
    connection ??= open(onFailure)
    if (connection.pending < pendingMax) return connection
    metrics.failure(server.name, 'overload')
    return undefined
  }

  /** The connection for deletes: also while the node is not read, if it answers. */
  async function deletable(): Promise<Connection | undefined> {
    if (isBroken && !isGivenUp && connection === undefined) probe()
    if (!isGivenUp) await settling
    return isClosed || (isBroken && isGivenUp) ? undefined : (connection ?? usable(Infinity))
  }

  async function flush(wireKeys: readonly string[]): Promise<readonly Found[] | undefined> {
    const parts: Promise<Answers | undefined>[] = []
    for (let at = 0; at < wireKeys.length; at += MULTI_GET_KEYS_MAX) {
      const keys = wireKeys.slice(at, at + MULTI_GET_KEYS_MAX)
      const to = usable()
      if (to === undefined) return undefined
      metrics.commands(keys.length + 1)
      metrics.multiGet()
      parts.push(to.request(keys.length + 1, (first) => encodeGets(keys, first)))
    }
    const found: Found[] = []
    for (const answers of await Promise.all(parts)) {
      if (answers === undefined) return undefined
      // The no-op's answer ends each part.
      for (let at = 0; at < answers.length - 1; at++) found.push(openAnswer(wireKeys[found.length] ?? '', answers[at]))
    }
    return found
  }

  function openBatch(): Batch {
    const places = new Map<string, number>()
    const { promise, resolve } = Promise.withResolvers<readonly Found[] | undefined>()
    setImmediate(() => {
      batch = undefined
      flush([...places.keys()]).then(resolve, () => resolve(undefined))
    })
    return { places, found: promise }
  }

  const node: CacheNode = {
    name: server.name,
    get isBroken() {
      return isBroken
    },
    async getMany(keys) {
      if (isBroken || isClosed) return undefined
      const joined = (batch ??= openBatch())
      const places = keys.map(({ wireKey }) => {
        const known = joined.places.get(wireKey)
        if (known !== undefined) return known
        const place = joined.places.size
        joined.places.set(wireKey, place)
        return place
      })
      const found = await joined.found
      return found && places.map((place) => found[place] ?? MISSING)
    },
    async command(encode) {
      const to = usable()
      if (to === undefined) return undefined
      const message = await node.commandOn(to, encode)
      return message && { message, connection: to }
    },
    async delete(wireKey) {
      for (let tries = 0; tries < DELETE_TRIES; tries++) {
        const to = usable(Infinity) ?? (await deletable())
        if (to === undefined) break
        metrics.commands(1)
        const [message] = (await to.request(1, (opaque) => encodeDelete(wireKey, opaque), patience())) ?? []
        if (message !== undefined && isDeleted(message)) return true
        breakNode(new Error('a delete was not confirmed'))
      }
      metrics.failure(server.name, 'delete')
      owed.owe(wireKey)
      // In this very turn: it may have been let back meanwhile.
      breakNode(new Error('a delete was not confirmed'))
      return false
    },
    distrust() {
      breakNode(new Error('deletes may have missed it'))
    },
    async commandOn(to, encode) {
      metrics.commands(1)
      const answers = await to.request(1, encode)
      return answers?.[0]
    },
    close() {
      isClosed = true
      clearTimeout(probeTimer)
      connection?.close()
    },
  }
  return node
}

function openAnswer(wireKey: string, answer: Answer | undefined): Found {
  if (answer === undefined || !isOk(answer)) return MISSING
  return unseal(wireKey, answer.bytes, valueStart(answer), answer.end) ?? { kind: 'corrupt', cas: casOf(answer) }
}
