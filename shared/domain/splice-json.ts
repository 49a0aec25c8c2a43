/** A piece of JSON text: bytes as they are, or text that must be ASCII. */
export type JsonPiece = Buffer | string

/** Joins pieces of JSON into one buffer, without parsing or encoding any. */
export function spliceJson(pieces: readonly JsonPiece[]): Buffer {
  let bytes = 0
  for (const piece of pieces) bytes += piece.length
  const spliced = Buffer.allocUnsafe(bytes)
  let at = 0
  for (const piece of pieces) {
    if (typeof piece === 'string') spliced.write(piece, at, 'latin1')
    else spliced.set(piece, at)
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
