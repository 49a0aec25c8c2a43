/** ICC.1:2022, 7.3: a count of tags stands here, then 12 bytes for each: name, offset, size. */
const TAG_COUNT_AT = 128
const TAG_BYTES = 12
/** No profile of a camera or a display has a tenth of this. */
const TAGS_MAX = 200

/** IEC 61966-2-1, adapted to D50 as profiles are: the columns of the matrix, as X, Y, Z. */
const SRGB_COLORANTS = {
  rXYZ: [0.4361, 0.2225, 0.0139],
  gXYZ: [0.3851, 0.7169, 0.0971],
  bXYZ: [0.1431, 0.0606, 0.7141],
} as const

const COLORANT_TOLERANCE = 0.003

/** What sRGB's curve makes of these: a plain power of 2.2 is further off than the tolerance. */
const SRGB_CURVE = [
  [0.1, 0.01002],
  [0.5, 0.21404],
  [0.9, 0.78741],
] as const

const CURVE_TOLERANCE = 0.002

/**
 * Whether an embedded profile is sRGB under any name, so that the pixels need no conversion: converting them all
 * costs a third of the time that a JPEG takes. Judged by its primaries and curves; anything unusual is not sRGB.
 */
export function isSrgbProfile(icc: Buffer): boolean {
  try {
    const tags = readTags(icc)
    const hasColorants = Object.entries(SRGB_COLORANTS).every(([name, xyz]) => {
      const tag = tags.get(name)
      return tag !== undefined && xyz.every((value, i) => Math.abs(fixed(tag, 8 + i * 4) - value) <= COLORANT_TOLERANCE)
    })
    if (!hasColorants || tags.has('A2B0')) return false
    return ['rTRC', 'gTRC', 'bTRC'].every((name) => {
      const tag = tags.get(name)
      return tag !== undefined && SRGB_CURVE.every(([x, y]) => Math.abs(evaluateCurve(tag, x) - y) <= CURVE_TOLERANCE)
    })
  } catch (error) {
    if (error instanceof RangeError) return false // it points outside of itself
    throw error
  }
}

function readTags(icc: Buffer): Map<string, Buffer> {
  const tags = new Map<string, Buffer>()
  const count = Math.min(icc.readUInt32BE(TAG_COUNT_AT), TAGS_MAX)
  for (let i = 0, at = TAG_COUNT_AT + 4; i < count; i++, at += TAG_BYTES) {
    const start = icc.readUInt32BE(at + 4)
    tags.set(icc.toString('latin1', at, at + 4), icc.subarray(start, start + icc.readUInt32BE(at + 8)))
  }
  return tags
}

/** A tone curve's value (ICC.1:2022, 10.6 and 10.18); NaN for a form that sRGB profiles do not use. */
function evaluateCurve(tag: Buffer, x: number): number {
  switch (tag.toString('latin1', 0, 4)) {
    case 'curv': {
      const count = tag.readUInt32BE(8)
      if (count < 2) return Number.NaN
      const position = x * (count - 1)
      const index = Math.floor(position)
      const [low, high] = [tag.readUInt16BE(12 + index * 2), tag.readUInt16BE(12 + (index + 1) * 2)]
      return (low + (high - low) * (position - index)) / 65_535
    }
    case 'para': {
      if (tag.readUInt16BE(8) !== 3) return Number.NaN
      const [gamma, a, b, c, d] = [12, 16, 20, 24, 28].map((at) => fixed(tag, at)) as [number, number, number, number, number]
      return x >= d ? (a * x + b) ** gamma : c * x
    }
    default:
      return Number.NaN
  }
}

/** An s15Fixed16Number. */
function fixed(tag: Buffer, at: number): number {
  return tag.readInt32BE(at) / 65_536
}
