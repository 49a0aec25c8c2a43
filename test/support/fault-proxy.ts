import { connect, createServer, type Socket } from 'node:net'
import { once } from 'node:events'
import type { Test } from 'tap'

/** What a proxy does to the bytes that pass through it, in both directions unless said otherwise. */
export type Fault =
  | { readonly kind: 'none' }
  /** Every chunk is late by so much. */
  | { readonly kind: 'latency'; readonly ms: number }
  /** Bytes are swallowed, after so many of answers counted from now; connections are accepted and stay open. */
  | { readonly kind: 'black-hole'; readonly afterBytes?: number }
  /** The answer passes a few bytes at a time. */
  | { readonly kind: 'drip'; readonly bytes: number; readonly everyMs: number }
  /** After so many bytes of answers, counted from now, each connection is reset (RST). */
  | { readonly kind: 'reset'; readonly afterBytes: number }
  /** After so many bytes of answers, counted from now, each connection is closed in an orderly way (FIN). */
  | { readonly kind: 'fin'; readonly afterBytes: number }
  /** The byte after so many bytes of answers, counted from now, is changed on each connection. */
  | { readonly kind: 'garble'; readonly afterBytes: number }
  /** New connections are reset at once, and old ones have been. */
  | { readonly kind: 'refuse' }
  /** Every chunk of a client's is held until its fate is known. */
  | { readonly kind: 'judged'; readonly judge: (request: Buffer) => Fate | Promise<Fate> }

/** A request passes; or it passes, and the connection is reset when its answer comes, in place of the answer. */
export type Fate = 'passes' | 'unanswered'

export interface FaultProxy {
  readonly port: number
  /** How many connections there have been. */
  readonly connections: number
  /** From now on, for present and new connections. */
  set(fault: Fault): void
  /** New connections go to that port from now on, as when a host moves what is behind a name; present ones stay. */
  point(targetPort: number): void
  close(): Promise<void>
}

const LOOPBACK = '127.0.0.1'
const GARBLED_BITS = 0x11

/** Puts a proxy before a port of the loopback address; closed at teardown. */
export async function startFaultProxy(t: Test, targetPort: number): Promise<FaultProxy> {
  let fault: Fault = { kind: 'none' }
  let target = targetPort
  let connections = 0
  const pairs = new Set<Pair>()
  const server = createServer({ allowHalfOpen: true }, (client) => {
    connections++
    if (fault.kind === 'refuse') {
      client.on('error', ignore).resetAndDestroy()
      return
    }
    const pair = join(client, connect({ port: target, host: LOOPBACK, allowHalfOpen: true }), () => fault)
    pairs.add(pair)
    client.once('close', () => pairs.delete(pair))
  })
  server.listen(0, LOOPBACK)
  await once(server, 'listening')
  const address = server.address()
  const port = typeof address === 'object' && address !== null ? address.port : 0

  const close = async (): Promise<void> => {
    for (const pair of pairs) pair.reset()
    if (!server.listening) return
    server.close()
    await once(server, 'close')
  }
  t.teardown(close)
  return {
    port,
    get connections() {
      return connections
    },
    set(next) {
      fault = next
      for (const pair of pairs) {
        pair.answered = 0
        if (next.kind === 'refuse') pair.reset()
      }
    },
    point(next) {
      target = next
    },
    close,
  }
}

interface Pair {
  /** Bytes of answers since the fault was set. */
  answered: number
  /** True once a request has passed whose answer must not. */
  isUnanswered: boolean
  reset(): void
}

function join(client: Socket, target: Socket, fault: () => Fault): Pair {
  const pair: Pair = {
    answered: 0,
    isUnanswered: false,
    reset() {
      // While the end of a socket is on its way, Node refuses the reset and leaves the handle open for ever.
      if (client.writableEnded) client.destroy()
      else client.resetAndDestroy()
      target.destroy()
    },
  }
  for (const socket of [client, target]) socket.setNoDelay(true).on('error', () => pair.reset())

  const up = inOrder(async (chunk: Buffer) => {
    const now = fault()
    if (now.kind === 'black-hole' && pair.answered >= (now.afterBytes ?? 0)) return
    if (now.kind === 'latency') await wait(now.ms)
    if (now.kind === 'judged') pair.isUnanswered ||= (await now.judge(chunk)) === 'unanswered'
    if (!target.destroyed) target.write(chunk)
  })
  const down = inOrder(async (chunk: Buffer) => {
    const now = fault()
    if (pair.isUnanswered) {
      pair.reset()
      return
    }
    switch (now.kind) {
      case 'black-hole': {
        const last = chunk.subarray(0, Math.max(0, (now.afterBytes ?? 0) - pair.answered))
        pair.answered += chunk.length
        if (last.length > 0) client.write(last)
        return
      }
      case 'latency':
        await wait(now.ms)
        break
      case 'drip':
        for (let at = 0; at < chunk.length && !client.destroyed; at += now.bytes) {
          client.write(chunk.subarray(at, at + now.bytes))
          await wait(now.everyMs)
        }
        return
      case 'reset':
      case 'fin': {
        const left = Math.max(0, now.afterBytes - pair.answered)
        pair.answered += chunk.length
        if (chunk.length <= left) break
        await cut(client, chunk.subarray(0, left), now.kind)
        target.destroy()
        return
      }
      case 'garble': {
        const at = now.afterBytes - pair.answered
        pair.answered += chunk.length
        if (at >= 0 && at < chunk.length) chunk.writeUInt8(chunk.readUInt8(at) ^ GARBLED_BITS, at)
        break
      }
      case 'none':
      case 'judged':
      case 'refuse':
    }
    if (!client.destroyed) client.write(chunk)
  })
  client.on('data', up.push).on('end', () => up.after(() => target.end()))
  target.on('data', down.push).on('end', () => down.after(() => client.end()))
  client.once('close', () => target.destroy())
  target.once('close', () => down.after(() => client.end()))
  return pair
}

/** Lets the last bytes out, and then ends the connection: what is unsent at a reset would be dropped. */
async function cut(client: Socket, last: Buffer, kind: 'reset' | 'fin'): Promise<void> {
  if (last.length > 0) await new Promise((resolve) => client.write(last, resolve))
  if (kind === 'fin') client.end()
  else client.resetAndDestroy()
}

/** Handles chunks one after the other, however long each takes. */
function inOrder(handle: (chunk: Buffer) => Promise<void>): { push: (chunk: Buffer) => void; after: (work: () => unknown) => void } {
  let tail: Promise<unknown> = Promise.resolve()
  const then = (work: () => unknown): void => void (tail = tail.then(work).catch(ignore))
  return { push: (chunk) => then(() => handle(chunk)), after: then }
}

function wait(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}

function ignore(): void {
  // The other side of a connection that is being broken on purpose may complain.
}
