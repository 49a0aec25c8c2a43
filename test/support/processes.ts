import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { createInterface } from 'node:readline'
import type { Test } from 'tap'
import { onTeardown } from './teardown.ts'

export const PROCESS_TYPES = ['web', 'fanout-worker', 'thumbnail-worker', 'safety-worker', 'id-allocator'] as const
export type ProcessType = (typeof PROCESS_TYPES)[number]

/** From SIGTERM to gone: what a host allows before it sends SIGKILL. */
const LEAVE_DEADLINE_MS = 30_000
const READY_DEADLINE_MS = 60_000
const LOG_LINES_TOLD = 30

/** How a process ended: with a code, or by a signal. */
export interface Exit {
  code: number | null
  signal: NodeJS.Signals | null
}

/** One line of a process's log; what is not JSON (a stack at boot) becomes its `msg`. */
export interface LogLine {
  msg?: string
  level?: string
  [field: string]: unknown
}

export interface TestProcess {
  type: ProcessType
  pid: number
  /** The port of its ready line: of the API for web, else undefined. */
  port: number | undefined
  /** Everything it has logged so far, oldest first. */
  log: LogLine[]
  /** Resolves with the first line, past or to come, that `matches`; rejects when the process ends before. */
  logged: (matches: (line: LogLine) => boolean) => Promise<LogLine>
  /** Sends the signal and resolves when the process is gone. From then on its end is expected. */
  kill: (signal: NodeJS.Signals) => Promise<Exit>
}

/**
 * Starts `services/<type>/main.ts` with `env` as its whole environment (and PATH, and where compiled modules are kept), and resolves when it has logged
 * `"msg":"ready"`. At teardown it gets SIGTERM; the test fails if it ended before by itself, does not end with 0, or
 * not in time. Throws with the end of its log when it does not become ready.
 */
export async function startProcess(t: Test, type: ProcessType, env: Record<string, string>): Promise<TestProcess> {
  const child = spawn(process.execPath, [`services/${type}/main.ts`], {
    env: { PATH: process.env.PATH, NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const log = watchLog(child)
  const ended = new Promise<Exit>((resolve) => child.once('close', (code, signal) => resolve({ code, signal })))
  let isExpected = false

  const kill = async (signal: NodeJS.Signals): Promise<Exit> => {
    isExpected = true
    child.kill(signal)
    return withDeadline(ended, LEAVE_DEADLINE_MS, () => {
      child.kill('SIGKILL')
      return new Error(`${type} did not leave within ${LEAVE_DEADLINE_MS} ms of ${signal}.\n${log.tail()}`)
    })
  }
  onTeardown(t, async () => {
    const endedAlone = child.exitCode !== null || child.signalCode !== null
    if (endedAlone && isExpected) return
    const exit = await kill('SIGTERM')
    if (endedAlone || exit.code !== 0) throw new Error(`${type} ended with ${exit.code ?? exit.signal}.\n${log.tail()}`)
  })

  const ready = await withDeadline(log.next((line) => line.msg === 'ready'), READY_DEADLINE_MS, () => {
    return new Error(`${type} is not ready after ${READY_DEADLINE_MS} ms.\n${log.tail()}`)
  })
  const port = typeof ready.port === 'number' ? ready.port : undefined
  return { type, pid: child.pid ?? 0, port, log: log.lines, logged: log.next, kill }
}

interface Log {
  lines: LogLine[]
  next: TestProcess['logged']
  tail: () => string
}

function watchLog(child: ChildProcess): Log {
  const lines: LogLine[] = []
  const waiting = new Set<{ matches: (line: LogLine) => boolean; resolve: (line: LogLine) => void; reject: (error: Error) => void }>()
  const tail = (): string => lines.slice(-LOG_LINES_TOLD).map(showLine).join('\n')
  const take = (text: string): void => {
    const line = parseLine(text)
    lines.push(line)
    for (const waiter of waiting) {
      if (!waiter.matches(line)) continue
      waiting.delete(waiter)
      waiter.resolve(line)
    }
  }
  for (const input of [child.stdout, child.stderr]) if (input !== null) createInterface({ input }).on('line', take)
  child.once('close', () => {
    for (const waiter of waiting) waiter.reject(new Error(`the process ended before it logged that.\n${tail()}`))
    waiting.clear()
  })
  const next: TestProcess['logged'] = (matches) => {
    const found = lines.find(matches)
    if (found !== undefined) return Promise.resolve(found)
    return new Promise((resolve, reject) => waiting.add({ matches, resolve, reject }))
  }
  return { lines, next, tail }
}

function parseLine(text: string): LogLine {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null ? (value as LogLine) : { msg: text }
  } catch {
    return { msg: text }
  }
}

function showLine(line: LogLine): string {
  return Object.keys(line).length === 1 ? (line.msg ?? '') : JSON.stringify(line)
}

async function withDeadline<T>(work: Promise<T>, deadlineMs: number, onLate: () => Error): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(onLate()), deadlineMs)
  })
  return Promise.race([work, late]).finally(() => clearTimeout(timer))
}
