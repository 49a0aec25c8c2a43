import { sniffMediaType } from './sniff.ts'
import type { ImageMediaType } from './sniff.ts'

/** What the first bytes of a picture say of it. The size is as stored, before any turning upright. */
export interface ImageHeader {
  width: number
  height: number
  mediaType: ImageMediaType
}

type Size = readonly [width: number, height: number]

/**
 * Reads a picture's size from the start of its file, in microseconds and without decoding anything, so that a
 * request can be refused before its body is stored.
 * @param prefix the first bytes of the file, at most `IMAGE_HEADER_BYTES` are of use.
 * @returns undefined when the bytes are no picture we accept, or do not reach the size (a worker will decide then).
 */
export function readHeader(prefix: Buffer): ImageHeader | undefined {
  const mediaType = sniffMediaType(prefix)
  if (mediaType === undefined) return undefined
  const size = SIZE_READERS[mediaType](prefix)
  if (size === undefined || size[0] < 1 || size[1] < 1) return undefined
  return { width: size[0], height: size[1], mediaType }
}

const SIZE_READERS: Record<ImageMediaType, (bytes: Buffer) => Size | undefined> = {
  'image/jpeg': readJpegSize,
  'image/png': readPngSize,
  'image/webp': readWebpSize,
  'image/avif': readHeifSize,
  'image/heic': readHeifSize,
}

/** ITU-T T.81, annex B: segments follow each other until a start of frame, which holds the size. */
function readJpegSize(bytes: Buffer): Size | undefined {
  let at = 2
  while (at + 9 <= bytes.length) {
    if (bytes[at] !== 0xff) return undefined
    const marker = bytes.readUInt8(at + 1)
    if (marker === 0xff) {
      at += 1 // a fill byte
      continue
    }
    if (isStandalone(marker)) {
      at += 2
      continue
    }
    if (isStartOfFrame(marker)) return [bytes.readUInt16BE(at + 7), bytes.readUInt16BE(at + 5)]
    const length = bytes.readUInt16BE(at + 2)
    if (length < 2 || marker === 0xda) return undefined
    at += 2 + length
  }
  return undefined
}

/** TEM and the restart markers stand alone, without a length. */
function isStandalone(marker: number): boolean {
  return marker === 0x01 || (marker >= 0xd0 && marker <= 0xd7)
}

/** SOF0 to SOF15, without DHT (C4), JPG (C8) and DAC (CC), which share the range. */
function isStartOfFrame(marker: number): boolean {
  return marker >= 0xc0 && marker <= 0xcf && marker !== 0xc4 && marker !== 0xc8 && marker !== 0xcc
}

/** PNG, 11.2.2: IHDR is the first chunk. */
function readPngSize(bytes: Buffer): Size | undefined {
  if (bytes.length < 24 || bytes.toString('latin1', 12, 16) !== 'IHDR') return undefined
  return [bytes.readUInt32BE(16), bytes.readUInt32BE(20)]
}

/** The WebP container specification (RFC 9649): the extended, the lossless and the lossy form. */
function readWebpSize(bytes: Buffer): Size | undefined {
  if (bytes.length < 30) return undefined
  switch (bytes.toString('latin1', 12, 16)) {
    case 'VP8X':
      return [1 + bytes.readUIntLE(24, 3), 1 + bytes.readUIntLE(27, 3)]
    case 'VP8L': {
      const bits = bytes.readUInt32LE(21)
      return [1 + (bits & 0x3fff), 1 + ((bits >>> 14) & 0x3fff)]
    }
    case 'VP8 ':
      return [bytes.readUInt16LE(26) & 0x3fff, bytes.readUInt16LE(28) & 0x3fff]
    default:
      return undefined
  }
}

const HEIF_PATH = ['meta', 'iprp', 'ipco'] as const

/** The `meta` box has a version and flags before its children (ISO/IEC 14496-12, 8.11.1). */
const FULL_BOX_BYTES = 4

/**
 * ISO/IEC 23008-12: the sizes of all items lie in meta/iprp/ipco as `ispe`. A picture cut in tiles has one for a
 * tile and one for the whole, and a thumbnail has its own, so the largest counts.
 */
function readHeifSize(bytes: Buffer): Size | undefined {
  let children: Buffer = bytes
  for (const name of HEIF_PATH) {
    const box = readBoxes(children).find((candidate) => candidate.type === name)
    if (box === undefined) return undefined
    children = name === 'meta' ? box.content.subarray(FULL_BOX_BYTES) : box.content
  }
  let largest: Size | undefined
  for (const { type, content } of readBoxes(children)) {
    if (type !== 'ispe' || content.length < 12) continue
    const size: Size = [content.readUInt32BE(4), content.readUInt32BE(8)]
    if (largest === undefined || size[0] * size[1] > largest[0] * largest[1]) largest = size
  }
  return largest
}

/** The boxes that lie side by side in these bytes; the last may be cut short. */
function readBoxes(bytes: Buffer): { type: string; content: Buffer }[] {
  const boxes: { type: string; content: Buffer }[] = []
  let at = 0
  while (at + 8 <= bytes.length) {
    const isLarge = bytes.readUInt32BE(at) === 1 && at + 16 <= bytes.length
    const length = isLarge ? Number(bytes.readBigUInt64BE(at + 8)) : bytes.readUInt32BE(at)
    const headerBytes = isLarge ? 16 : 8
    const end = length === 0 ? bytes.length : at + length
    boxes.push({ type: bytes.toString('latin1', at + 4, at + 8), content: bytes.subarray(at + headerBytes, end) })
    if (end < at + headerBytes) break
    at = end
  }
  return boxes
}
