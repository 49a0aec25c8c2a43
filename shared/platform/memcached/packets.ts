import { Utils } from 'memjs'
import { HEADER_BYTES, valueOf, type Answer } from './answers.ts'

/** The binary protocol's commands that we send (memcached, doc/protocol-binary.txt). */
const SET = 0x01
const ADD = 0x02
const DELETE = 0x04
const INCREMENT = 0x05
const DECREMENT = 0x06
const GETQ = 0x09
const NOOP = 0x0a

const STATUS_OK = 0
const STATUS_NOT_FOUND = 1

const REQUEST_MAGIC = 0x80
const CAS_AT = 16
const FLAGS_NONE = '\0\0\0\0'

/** A number of a request, as memcached repeats it in the response: 32 bits without sign, and then from 0 again. */
export type Opaque = number

/**
 * Quiet gets, which answer for hits only, and a no-op, which always answers and so tells their end. The opaques count
 * up from `first`, one for each key and one for the no-op. Written into one buffer: memjs makes four for each packet,
 * which was half of the time that a page took.
 *
 * @param wireKeys printable ASCII
 */
export function encodeGets(wireKeys: readonly string[], first: Opaque): Buffer {
  let bytes = HEADER_BYTES
  for (const key of wireKeys) bytes += HEADER_BYTES + key.length
  const packets = Buffer.alloc(bytes)
  let at = 0
  let opaque = first
  for (const key of wireKeys) {
    packets[at] = REQUEST_MAGIC
    packets[at + 1] = GETQ
    packets[at + 3] = key.length
    packets[at + 11] = key.length
    writeOpaque(packets, opaque, at)
    packets.write(key, at + HEADER_BYTES, 'latin1')
    at += HEADER_BYTES + key.length
    opaque = (opaque + 1) >>> 0
  }
  packets[at] = REQUEST_MAGIC
  packets[at + 1] = NOOP
  writeOpaque(packets, opaque, at)
  return packets
}

function writeOpaque(packets: Buffer, opaque: Opaque, at: number): void {
  packets[at + 12] = opaque >>> 24
  packets[at + 13] = opaque >>> 16
  packets[at + 14] = opaque >>> 8
  packets[at + 15] = opaque
}

function encodeNoop(opaque: Opaque): Buffer {
  return Utils.makeRequestBuffer(NOOP, '', '', '', opaque)
}

/** Stores only where there is nothing yet. */
export function encodeAdd(wireKey: string, value: Buffer, lifeSeconds: number, opaque: Opaque): Buffer {
  return Utils.makeRequestBuffer(ADD, wireKey, lifeExtras(lifeSeconds), value, opaque)
}

/** Stores only over the item whose CAS is given. */
export function encodeSet(wireKey: string, value: Buffer, lifeSeconds: number, cas: Buffer, opaque: Opaque): Buffer {
  return withCas(Utils.makeRequestBuffer(SET, wireKey, lifeExtras(lifeSeconds), value, opaque), cas)
}

/** @param cas deletes only the item with that CAS; without it, whatever is there */
export function encodeDelete(wireKey: string, opaque: Opaque, cas?: Buffer): Buffer {
  const packet = Utils.makeRequestBuffer(DELETE, wireKey, '', '', opaque)
  return cas === undefined ? packet : withCas(packet, cas)
}

/** Deletes, each of which is answered, and a no-op that is answered last; their opaques count up from `first`. */
export function encodeDeletes(wireKeys: readonly string[], first: Opaque): Buffer {
  const deletes = wireKeys.map((key, at) => encodeDelete(key, (first + at) >>> 0))
  return Buffer.concat([...deletes, encodeNoop((first + wireKeys.length) >>> 0)])
}

/**
 * Adds to a counter, which ends `lifeSeconds` after its beginning.
 *
 * @param amount below 0 it is taken away, as far as there is any; a counter that is not there begins as if it were 0
 */
export function encodeIncrement(wireKey: string, amount: number, lifeSeconds: number, opaque: Opaque): Buffer {
  const extras = Utils.makeAmountInitialAndExpiration(Math.abs(amount), Math.max(amount, 0), lifeSeconds)
  return Utils.makeRequestBuffer(amount < 0 ? DECREMENT : INCREMENT, wireKey, extras, '', opaque)
}

export function isOk(answer: Answer): boolean {
  return answer.status === STATUS_OK
}

/** True when the key is gone, whether or not it was there. */
export function isDeleted(answer: Answer): boolean {
  return answer.status === STATUS_OK || answer.status === STATUS_NOT_FOUND
}

/** The counter's value: all 64 bits of it, of which memjs reads 32. */
export function counterOf(answer: Answer): number {
  return Number(valueOf(answer).readBigUInt64BE())
}

/** memjs's own packets have no place for a CAS. */
function withCas(packet: Buffer, cas: Buffer): Buffer {
  cas.copy(packet, CAS_AT)
  return packet
}

function lifeExtras(seconds: number): Buffer {
  return Buffer.concat([Buffer.from(FLAGS_NONE, 'latin1'), Utils.makeExpiration(seconds)])
}
