/**
 * PDQ, a perceptual hash: pictures that look alike have hashes that differ in few of their 256 bits.
 *
 * Written from the published description, "The TMK+PDQF Video-Hashing Algorithm and the PDQ Image-Hashing
 * Algorithm" (Facebook, 2019, hashing.pdf in github.com/facebook/ThreatExchange):
 *
 *   luminance -> tent filter (two passes of a box, each way) -> 64 x 64 samples -> the 16 x 16 lowest frequencies of
 *   its cosine transform, without the constant one -> one bit each: above the median or not.
 *
 * Pictures larger than 512 pixels should be made smaller first, which the reference programs do too.
 */

/** A hash as 64 lower-case hex digits, and how much detail it rests on (0 flat to 100). */
export interface PdqHash {
  hash: string
  quality: number
}

/** A hash of lower quality says too little to match by; the reference's recommendation is to discard up to 49. */
export const PDQ_QUALITY_MIN = 50

const HASH_BITS = 256
const HASH_DIGITS = HASH_BITS / 4
const SAMPLES = 64
const FREQUENCIES = 16
/** A box of half a sample's width, passed over twice, is a tent of a sample's width. */
const BOXES_ACROSS = SAMPLES * 2
const BOX_PASSES = 2
/** Scales the sum of the gradients to 0..100; found by experiment, says the description. */
const QUALITY_DIVISOR = 90

/** The picture as it is, and as it would be turned (counter-clockwise) or mirrored; the reference's names. */
export const DIHEDRAL_VARIANTS = [
  'original', 'rotate90', 'rotate180', 'rotate270', 'flipX', 'flipY', 'flipPlus1', 'flipMinus1',
] as const

export type DihedralVariant = (typeof DIHEDRAL_VARIANTS)[number]

/** Luminance of interleaved 8-bit pixels of 1, 3 or 4 channels (an alpha channel is ignored): Rec. 601, 0 to 255. */
export function luminanceOf(pixels: Uint8Array, channels: 1 | 3 | 4): Float64Array {
  const luminance = new Float64Array(Math.floor(pixels.length / channels))
  for (let i = 0, at = 0; i < luminance.length; i++, at += channels) {
    const first = pixels[at] ?? 0
    luminance[i] =
      channels === 1 ? first : 0.299 * first + 0.587 * (pixels[at + 1] ?? 0) + 0.114 * (pixels[at + 2] ?? 0)
  }
  return luminance
}

/**
 * The PDQ hash of a picture.
 * @param luminance `rows * columns` values from 0 to 255, row by row; not changed. Another count is a RangeError.
 */
export function pdqHash(luminance: Float64Array, rows: number, columns: number): PdqHash {
  const samples = sample(luminance, rows, columns)
  return { hash: toHash(transform(samples)), quality: qualityOf(samples) }
}

/**
 * The hashes of a picture and of its seven turned and mirrored forms. They come almost free: turning the picture
 * only swaps the axes of its cosine transform and changes signs.
 * @param luminance as for `pdqHash`.
 */
export function pdqDihedralHashes(
  luminance: Float64Array,
  rows: number,
  columns: number,
): { hashes: Record<DihedralVariant, string>; quality: number } {
  const samples = sample(luminance, rows, columns)
  const frequencies = transform(samples)
  const variant = (isTransposed: boolean, flipsRows: boolean, flipsColumns: boolean): string =>
    toHash(dihedral(frequencies, isTransposed, flipsRows, flipsColumns))
  const hashes = {
    original: variant(false, false, false),
    rotate90: variant(true, true, false),
    rotate180: variant(false, true, true),
    rotate270: variant(true, false, true),
    flipX: variant(false, true, false),
    flipY: variant(false, false, true),
    flipPlus1: variant(true, false, false),
    flipMinus1: variant(true, true, true),
  }
  return { hashes, quality: qualityOf(samples) }
}

/** Reads a hash given by a person or another system: 64 hex digits, any case. Undefined when it is none. */
export function parsePdqHash(text: string): string | undefined {
  return /^[0-9a-f]{64}$/i.test(text) ? text.toLowerCase() : undefined
}

/** A hash as eight 32-bit words, for comparing it with many. Throws RangeError when it is no PDQ hash. */
export function packPdqHash(hash: string): Uint32Array {
  const digits = parsePdqHash(hash)
  if (digits === undefined) throw new RangeError('a PDQ hash is 64 hex digits')
  return Uint32Array.from({ length: 8 }, (_, word) => Number.parseInt(digits.slice(word * 8, word * 8 + 8), 16))
}

/** In how many of their 256 bits two packed hashes differ. */
export function packedHammingDistance(a: Uint32Array, b: Uint32Array): number {
  let distance = 0
  for (let word = 0; word < 8; word++) distance += countBits((a[word] ?? 0) ^ (b[word] ?? 0))
  return distance
}

/** In how many of their 256 bits two hashes differ. Throws RangeError when one is no PDQ hash. */
export function hammingDistance(a: string, b: string): number {
  return packedHammingDistance(packPdqHash(a), packPdqHash(b))
}

/** Population count of a 32-bit word (Warren, Hacker's Delight, 5-1). */
function countBits(word: number): number {
  let bits = word - ((word >>> 1) & 0x55555555)
  bits = (bits & 0x33333333) + ((bits >>> 2) & 0x33333333)
  bits = (bits + (bits >>> 4)) & 0x0f0f0f0f
  return Math.imul(bits, 0x01010101) >>> 24
}

/** Smooths the picture, then takes the value at the middle of each of 64 x 64 cells. */
function sample(luminance: Float64Array, rows: number, columns: number): Float64Array {
  if (rows < 1 || columns < 1 || luminance.length !== rows * columns) {
    throw new RangeError('luminance must hold rows * columns values')
  }
  const picture = Float64Array.from(luminance)
  const spare = new Float64Array(luminance.length)
  for (let pass = 0; pass < BOX_PASSES; pass++) {
    const across = Math.ceil(columns / BOXES_ACROSS)
    const down = Math.ceil(rows / BOXES_ACROSS)
    for (let row = 0; row < rows; row++) boxFilter(picture, spare, row * columns, columns, 1, across)
    for (let column = 0; column < columns; column++) boxFilter(spare, picture, column, rows, columns, down)
  }
  return Float64Array.from({ length: SAMPLES * SAMPLES }, (_, at) => {
    const row = Math.floor(((Math.floor(at / SAMPLES) + 0.5) * rows) / SAMPLES)
    const column = Math.floor((((at % SAMPLES) + 0.5) * columns) / SAMPLES)
    return picture[row * columns + column] ?? 0
  })
}

/**
 * The mean of the values around each of a line, with a running sum, so that the width costs nothing (Jarosz, "Fast
 * Image Convolutions", 2001). Where the window reaches over an end it holds what there is; an even window reaches
 * one further ahead than back.
 * @param start index of the line's first value, in both arrays.
 * @param length how many values the line has.
 * @param stride from one value to the next.
 * @param width of the window.
 */
export function boxFilter(
  input: Float64Array,
  output: Float64Array,
  start: number,
  length: number,
  stride: number,
  width: number,
): void {
  const ahead = Math.floor(width / 2)
  const back = width - 1 - ahead
  let sum = 0
  let held = 0
  for (let i = 0; i < Math.min(ahead, length); i++, held++) sum += input[start + i * stride] ?? 0
  for (let i = 0; i < length; i++) {
    if (i + ahead < length) {
      sum += input[start + (i + ahead) * stride] ?? 0
      held++
    }
    if (i - back > 0) {
      sum -= input[start + (i - back - 1) * stride] ?? 0
      held--
    }
    output[start + i * stride] = sum / held
  }
}

/** Counts the steps between neighbours that are large enough to see. */
function qualityOf(samples: Float64Array): number {
  let steps = 0
  for (let i = 0; i < SAMPLES; i++) {
    for (let j = 0; j < SAMPLES; j++) {
      const here = samples[i * SAMPLES + j] ?? 0
      if (i + 1 < SAMPLES) steps += stepOf(here, samples[(i + 1) * SAMPLES + j] ?? 0)
      if (j + 1 < SAMPLES) steps += stepOf(here, samples[i * SAMPLES + j + 1] ?? 0)
    }
  }
  return Math.min(Math.floor(steps / QUALITY_DIVISOR), 100)
}

/** A difference in whole hundredths of the range. */
function stepOf(a: number, b: number): number {
  return Math.floor((Math.abs(a - b) * 100) / 255)
}

/** Row k - 1 is the cosine of frequency k at the 64 samples, k from 1 to 16 (DCT-II, unscaled: only order counts). */
const COSINES = Float64Array.from({ length: FREQUENCIES * SAMPLES }, (_, at) => {
  const frequency = Math.floor(at / SAMPLES) + 1
  return Math.cos((Math.PI / 2 / SAMPLES) * frequency * (2 * (at % SAMPLES) + 1))
})

/** The two-dimensional cosine transform, frequencies 1 to 16 each way: COSINES * samples * COSINES transposed. */
function transform(samples: Float64Array): Float64Array {
  const half = new Float64Array(FREQUENCIES * SAMPLES)
  const full = new Float64Array(FREQUENCIES * FREQUENCIES)
  for (let i = 0; i < FREQUENCIES; i++) {
    for (let j = 0; j < SAMPLES; j++) {
      let sum = 0
      for (let k = 0; k < SAMPLES; k++) sum += (COSINES[i * SAMPLES + k] ?? 0) * (samples[k * SAMPLES + j] ?? 0)
      half[i * SAMPLES + j] = sum
    }
  }
  for (let i = 0; i < FREQUENCIES; i++) {
    for (let j = 0; j < FREQUENCIES; j++) {
      let sum = 0
      for (let k = 0; k < SAMPLES; k++) sum += (half[i * SAMPLES + k] ?? 0) * (COSINES[j * SAMPLES + k] ?? 0)
      full[i * FREQUENCIES + j] = sum
    }
  }
  return full
}

/**
 * The transform of the picture mirrored at its main diagonal (if so wished), then top to bottom, then left to right.
 * Mirroring along an axis changes the sign of that axis's odd frequencies, which lie at the even indices.
 */
function dihedral(
  frequencies: Float64Array,
  isTransposed: boolean,
  flipsRows: boolean,
  flipsColumns: boolean,
): Float64Array {
  return frequencies.map((_, at) => {
    const i = Math.floor(at / FREQUENCIES)
    const j = at % FREQUENCIES
    const value = frequencies[isTransposed ? j * FREQUENCIES + i : at] ?? 0
    const isNegated = (flipsRows && i % 2 === 0) !== (flipsColumns && j % 2 === 0)
    return isNegated ? -value : value
  })
}

/** Writes bit `16 * i + j` as the reference does: bit 0 is the last of the last digit. */
function toHash(frequencies: Float64Array): string {
  const median = lowerMedian(frequencies)
  let digits = ''
  for (let digit = HASH_DIGITS - 1; digit >= 0; digit--) {
    let value = 0
    for (let bit = 0; bit < 4; bit++) if ((frequencies[digit * 4 + bit] ?? 0) > median) value |= 1 << bit
    digits += value.toString(16)
  }
  return digits
}

/** The median; of an even number of values the lower of the middle two. */
export function lowerMedian(values: Float64Array): number {
  return values.toSorted()[Math.ceil(values.length / 2) - 1] ?? 0
}
