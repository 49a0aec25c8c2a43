/** One answer of memcached, where it lies among the bytes that came: most of it is never looked at. */
export interface Answer {
  /** 0: it went well (memcached, doc/protocol-binary.txt). */
  readonly status: number
  /** The number of the request that it answers. */
  readonly opaque: number
  readonly bytes: Buffer
  /** Where it begins in `bytes`, and where it ends. */
  readonly start: number
  readonly end: number
}

export const HEADER_BYTES = 24
const RESPONSE_MAGIC = 0x81
/** The value limit of memcached and room for what is around it: more than this is no answer to us. */
const BODY_BYTES_MAX = 1_100_000
const NOT_AN_ANSWER = 'an answer that is not memcached’s'
const KEY_LENGTH_AT = 2
const EXTRAS_LENGTH_AT = 4
const STATUS_AT = 6
const BODY_LENGTH_AT = 8
const OPAQUE_AT = 12
const CAS_AT = 16

/** The value of an answer; it shares the answer's memory. */
export function valueOf(answer: Answer): Buffer {
  return answer.bytes.subarray(valueStart(answer), answer.end)
}

/** Where the value of an answer begins in its bytes; it goes on to the answer's end. */
export function valueStart({ bytes, start }: Answer): number {
  return start + HEADER_BYTES + bytes.readUInt16BE(start + KEY_LENGTH_AT) + (bytes[start + EXTRAS_LENGTH_AT] ?? 0)
}

/** The CAS of an answer, eight bytes. */
export function casOf({ bytes, start }: Answer): Buffer {
  return bytes.subarray(start + CAS_AT, start + HEADER_BYTES)
}

/**
 * Cuts what a socket brings into answers, in one pass. Where memjs copies all that it has at every chunk, and makes
 * five buffers for each answer, only an answer that lies in two chunks is copied here.
 *
 * @param take gets each answer; what it answers false to is the end, and nothing after it is looked at
 * @param refuse is told of bytes that cannot be an answer, as soon as they can be known
 */
export function cutAnswers(take: (answer: Answer) => boolean, refuse: (reason: string) => void): (chunk: Buffer) => void {
  /** The answer that began in an earlier chunk, or at first its header, and how much of it has come. */
  let begun: Buffer | undefined
  let filled = 0

  return (chunk) => {
    let at = 0
    while (at < chunk.length) {
      if (begun === undefined) {
        const bytes = bytesOfAnswer(chunk, at)
        if (bytes === undefined) {
          refuse(NOT_AN_ANSWER)
          return
        }
        if (at + bytes <= chunk.length) {
          if (!take(answerIn(chunk, at, at + bytes))) return
          at += bytes
          continue
        }
        begun = Buffer.allocUnsafe(bytes)
        filled = 0
      }
      const copied = chunk.copy(begun, filled, at)
      filled += copied
      at += copied
      if (filled < begun.length) return
      const bytes = bytesOfAnswer(begun, 0)
      if (bytes === undefined) {
        refuse(NOT_AN_ANSWER)
        return
      }
      if (bytes > begun.length) {
        // The header has only now become known.
        begun = Buffer.concat([begun], bytes)
        continue
      }
      const whole = begun
      begun = undefined
      if (!take(answerIn(whole, 0, bytes))) return
    }
  }
}

/** How long the answer at a place is; as long as its header where that is not all there; undefined when it is none. */
function bytesOfAnswer(bytes: Buffer, start: number): number | undefined {
  if (bytes[start] !== RESPONSE_MAGIC) return undefined
  if (bytes.length - start < HEADER_BYTES) return HEADER_BYTES
  const body = bytes.readUInt32BE(start + BODY_LENGTH_AT)
  const before = bytes.readUInt16BE(start + KEY_LENGTH_AT) + (bytes[start + EXTRAS_LENGTH_AT] ?? 0)
  return body > BODY_BYTES_MAX || body < before ? undefined : HEADER_BYTES + body
}

function answerIn(bytes: Buffer, start: number, end: number): Answer {
  return {
    status: bytes.readUInt16BE(start + STATUS_AT),
    opaque: bytes.readUInt32BE(start + OPAQUE_AT),
    bytes,
    start,
    end,
  }
}
