import type { Id } from './snowflake.ts'

const whole = new BigUint64Array(1)
const halves = new Uint32Array(whole.buffer)
whole[0] = 1n
/** Which half of eight bytes is which differs between machines. */
const [HIGH, LOW] = halves[0] === 1 ? [1, 0] : [0, 1]

/**
 * Reads an id of eight bytes, big-endian. Node's readBigUInt64BE makes five bigints on the way to one, and a page reads
 * a hundred ids.
 */
export function readId(bytes: Buffer, at: number): Id {
  halves[HIGH] = bytes.readUInt32BE(at)
  halves[LOW] = bytes.readUInt32BE(at + 4)
  return whole[0] as Id
}
