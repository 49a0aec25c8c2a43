/** A piece of JSON text: bytes as they are, a part of some, or text that must be ASCII. */
export type JsonPiece = Buffer | JsonSlice | string

/** A part of bytes; a view of its own costs more than copying it. */
export interface JsonSlice {
  readonly bytes: Buffer
  readonly start: number
  readonly length: number
}

/** Joins pieces of JSON into one buffer, without parsing or encoding any. */
export function spliceJson(pieces: readonly JsonPiece[]): Buffer {
  let bytes = 0
  for (const piece of pieces) bytes += piece.length
  const spliced = Buffer.allocUnsafe(bytes)
  let at = 0
  for (const piece of pieces) {
    if (typeof piece === 'string') spliced.write(piece, at, 'latin1')
    else if (Buffer.isBuffer(piece)) spliced.set(piece, at)
    else piece.bytes.copy(spliced, at, piece.start, piece.start + piece.length)
    at += piece.length
  }
  return spliced
}

/**
 * The fields of an object as bytes to be spliced between others: its JSON without the braces.
 * Undefined fields are left out, as JSON does.
 */
export function jsonFields(object: object): Buffer {
  return Buffer.from(JSON.stringify(object).slice(1, -1))
}
