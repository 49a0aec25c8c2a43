import t from 'tap'
import {
  boxFilter, DIHEDRAL_VARIANTS, hammingDistance, lowerMedian, luminanceOf, packPdqHash, parsePdqHash, pdqDihedralHashes, pdqHash,
} from '#kernel/pdq.ts'
import type { DihedralVariant } from '#kernel/pdq.ts'
import { openImage, toPixels } from '#platform/images/open-image.ts'
import { BRIDGE_HASHES, SCREENSHOT_HASH, SCREENSHOT_PNG, WINDOW_SUMS } from '../../support/pdq-vectors.ts'

t.test('the published picture has the published hash, to the bit', async (t) => {
  // The reference hashes the stored values: the profile is left aside and alpha dropped.
  const { data, width, height, channels } = await toPixels(openImage(SCREENSHOT_PNG).keepIccProfile())
  const { hash, quality } = pdqHash(luminanceOf(data, channels), height, width)
  t.equal(hash, SCREENSHOT_HASH)
  t.equal(quality, 100)
})

t.test('the box filter gives the published window sums, divided by what the window holds', async (t) => {
  for (const width of [7, 8] as const) {
    const line = Float64Array.from({ length: 16 }, (_, i) => i)
    const means = new Float64Array(16)
    boxFilter(line, means, 0, 16, 1, width)
    const back = width - 1 - Math.floor(width / 2)
    const sums = [...means].map((mean, i) => mean * (Math.min(15, i + Math.floor(width / 2)) - Math.max(0, i - back) + 1))
    t.same(sums.map(Math.round), WINDOW_SUMS[width], `window ${String(width)}`)
  }
})

t.test('the median of an even count is the lower one, as in the published test', async (t) => {
  t.equal(lowerMedian(Float64Array.from({ length: 32 }, (_, i) => Math.floor(i / 8) + (i % 8) * 0.01)), 1.07)
})

t.test('the order of the bits is the published one', async (t) => {
  // Mirroring at the main diagonal swaps the axes and leaves the median alone, so it can be done on the hash itself.
  t.equal(fromBits(toBits(BRIDGE_HASHES.original).map((_, at, bits) => bits[(at % 16) * 16 + Math.floor(at / 16)] ?? 0)), BRIDGE_HASHES.flipPlus1)
  // The others change signs about a median that is close to zero: few bits differ from the published hashes.
  for (const [variant, isTransposed, flipsRows, flipsColumns] of [
    ['rotate90', true, true, false],
    ['rotate180', false, true, true],
    ['rotate270', true, false, true],
    ['flipX', false, true, false],
    ['flipY', false, false, true],
    ['flipMinus1', true, true, true],
  ] as const) {
    const bits = toBits(BRIDGE_HASHES.original).map((_, at, all) => {
      const i = Math.floor(at / 16)
      const j = at % 16
      const bit = all[isTransposed ? j * 16 + i : at] ?? 0
      return (flipsRows && i % 2 === 0) !== (flipsColumns && j % 2 === 0) ? 1 - bit : bit
    })
    const distance = hammingDistance(fromBits(bits), BRIDGE_HASHES[variant])
    t.ok(distance <= 16, `${variant}: ${String(distance)} bits apart`)
  }
})

t.test('the published dihedral names are those of the pictures', async (t) => {
  const size = 64 // so that nothing is smoothed or sampled, and turning is exact
  const picture = synthetic(size, size, 3)
  const { hashes, quality } = pdqDihedralHashes(picture, size, size)
  t.equal(hashes.original, pdqHash(picture, size, size).hash)
  t.equal(quality, pdqHash(picture, size, size).quality)
  for (const variant of DIHEDRAL_VARIANTS) {
    const source = SOURCES[variant]
    const turned = Float64Array.from({ length: size * size }, (_, at) => {
      const [row, column] = source(Math.floor(at / size), at % size, size - 1)
      return picture[row * size + column] ?? 0
    })
    // Only the median moves a little, when half of the frequencies change their sign.
    const distance = hammingDistance(hashes[variant], pdqHash(turned, size, size).hash)
    t.ok(distance <= 4, `${variant}: ${String(distance)} bits apart`)
  }
})

t.test('agrees with a slow program written from the description', async (t) => {
  for (const [rows, columns] of [[64, 64], [28, 26], [5, 200], [128, 129], [300, 400], [512, 383]] as const) {
    const picture = synthetic(rows, columns, rows + columns)
    t.same(pdqHash(picture, rows, columns), slowPdqHash(picture, rows, columns), `${String(rows)} x ${String(columns)}`)
  }
})

t.test('a flat picture has no quality, and a small change moves few bits', async (t) => {
  t.equal(pdqHash(new Float64Array(100 * 100).fill(128), 100, 100).quality, 0)
  const picture = synthetic(256, 256, 1)
  const brighter = picture.map((value) => value * 0.9 + 12)
  t.ok(hammingDistance(pdqHash(picture, 256, 256).hash, pdqHash(brighter, 256, 256).hash) <= 4)
  t.ok(hammingDistance(pdqHash(picture, 256, 256).hash, pdqHash(synthetic(256, 256, 2), 256, 256).hash) > 60)
  t.throws(() => pdqHash(picture, 10, 10), RangeError)
})

t.test('hashes are parsed, packed and compared', async (t) => {
  t.equal(parsePdqHash(SCREENSHOT_HASH.toUpperCase()), SCREENSHOT_HASH)
  for (const text of ['', SCREENSHOT_HASH.slice(1), `${SCREENSHOT_HASH}0`, `g${SCREENSHOT_HASH.slice(1)}`, ` ${SCREENSHOT_HASH.slice(1)}`]) {
    t.equal(parsePdqHash(text), undefined)
    t.throws(() => packPdqHash(text), RangeError)
  }
  t.equal(hammingDistance('0'.repeat(64), 'f'.repeat(64)), 256)
  t.equal(hammingDistance('0'.repeat(64), `8${'0'.repeat(62)}1`), 2)
  t.same(luminanceOf(Uint8Array.of(255, 0, 0, 9, 0, 255, 0, 9), 4), Float64Array.of(0.299 * 255, 0.587 * 255))
})

/** Where the pixel at (row, column) of each form comes from; `last` is the highest index. */
const SOURCES: Record<DihedralVariant, (row: number, column: number, last: number) => [number, number]> = {
  original: (row, column) => [row, column],
  rotate90: (row, column, last) => [column, last - row],
  rotate180: (row, column, last) => [last - row, last - column],
  rotate270: (row, column, last) => [last - column, row],
  flipX: (row, column, last) => [last - row, column],
  flipY: (row, column, last) => [row, last - column],
  flipPlus1: (row, column) => [column, row],
  flipMinus1: (row, column, last) => [last - column, last - row],
}

/** Waves of several directions and a bright disc: detail in all frequencies that count, the same for the same seed. */
function synthetic(rows: number, columns: number, seed: number): Float64Array {
  return Float64Array.from({ length: rows * columns }, (_, at) => {
    const y = Math.floor(at / columns) / rows
    const x = (at % columns) / columns
    let value = 128
    for (let wave = 1; wave <= 12; wave++) {
      const phase = seed * wave * 1.7
      value += (60 / wave) * Math.sin(phase + 2 * Math.PI * (x * ((wave * 5 + seed) % 7) + y * ((wave * 3 + seed) % 8)))
    }
    if ((x - 0.3) ** 2 + (y - 0.6) ** 2 < 0.02) value += 50
    return Math.min(Math.max(value, 0), 255)
  })
}

/** Every step as the description words it, without any of the short cuts: windows summed anew, the whole transform. */
function slowPdqHash(luminance: Float64Array, rows: number, columns: number): { hash: string; quality: number } {
  let picture = Array.from({ length: rows }, (_, row) => [...luminance.subarray(row * columns, (row + 1) * columns)])
  const transposed = (matrix: number[][]): number[][] => (matrix[0] ?? []).map((_, j) => matrix.map((line) => line[j] ?? 0))
  const mean = (line: number[], width: number): number[] =>
    line.map((_, i) => {
      const window = line.slice(Math.max(0, i - Math.floor((width - 1) / 2)), i + Math.floor(width / 2) + 1)
      return window.reduce((a, b) => a + b, 0) / window.length
    })
  for (let pass = 0; pass < 2; pass++) {
    picture = picture.map((line) => mean(line, Math.ceil(columns / 128)))
    picture = transposed(transposed(picture).map((line) => mean(line, Math.ceil(rows / 128))))
  }
  const cells = Array.from({ length: 64 }, (_, i) =>
    Array.from({ length: 64 }, (_, j) => picture[Math.floor(((2 * i + 1) * rows) / 128)]?.[Math.floor(((2 * j + 1) * columns) / 128)] ?? 0),
  )
  const steps = (matrix: number[][]): number =>
    matrix.flatMap((line) => line.slice(1).map((value, j) => Math.trunc(Math.abs(((value - (line[j] ?? 0)) * 100) / 255)))).reduce((a, b) => a + b, 0)
  const quality = Math.min(100, Math.trunc((steps(cells) + steps(transposed(cells))) / 90))
  const frequencies: number[] = []
  for (let u = 1; u <= 16; u++) {
    for (let v = 1; v <= 16; v++) {
      let sum = 0
      for (let y = 0; y < 64; y++) {
        for (let x = 0; x < 64; x++) {
          sum += (cells[y]?.[x] ?? 0) * Math.cos(((2 * y + 1) * u * Math.PI) / 128) * Math.cos(((2 * x + 1) * v * Math.PI) / 128)
        }
      }
      frequencies.push(sum)
    }
  }
  const median = frequencies.toSorted((a, b) => a - b)[127] ?? 0
  return { hash: fromBits(frequencies.map((value) => (value > median ? 1 : 0))), quality }
}

/** Bit `16 * i + j` of a hash at index `16 * i + j`: the number is written with its highest bit first. */
function toBits(hash: string): number[] {
  return Array.from(BigInt(`0x${hash}`).toString(2).padStart(256, '0'), Number).reverse()
}

function fromBits(bits: number[]): string {
  return BigInt(`0b${bits.toReversed().join('')}`).toString(16).padStart(64, '0')
}
