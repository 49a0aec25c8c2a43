import { HEIC_DECODABLE } from './open-image.ts'

/** The media types that an upload may have. */
export type ImageMediaType = 'image/jpeg' | 'image/png' | 'image/webp' | 'image/avif' | 'image/heic'

const PNG_SIGNATURE = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a])

const AVIF_BRANDS = new Set(['avif', 'avis'])
/** ISO/IEC 23008-12, annex B: still pictures and sequences coded with HEVC. */
const HEIC_BRANDS = new Set(['heic', 'heix', 'heim', 'heis', 'hevc', 'hevx', 'hevm', 'hevs'])

/**
 * Names a picture's type by its first bytes, never by its name or what the client says.
 * @param firstBytes the start of the file; 256 bytes hold the `ftyp` box of an AVIF with many brands.
 * @returns undefined for anything we do not accept: SVG, GIF, text, nothing at all, and HEIC where it is not decodable.
 */
export function sniffMediaType(firstBytes: Uint8Array): ImageMediaType | undefined {
  const bytes = Buffer.from(firstBytes.buffer, firstBytes.byteOffset, firstBytes.byteLength)
  if (bytes.length >= 3 && bytes[0] === 0xff && bytes[1] === 0xd8 && bytes[2] === 0xff) return 'image/jpeg'
  if (bytes.subarray(0, PNG_SIGNATURE.length).equals(PNG_SIGNATURE)) return 'image/png'
  if (text(bytes, 0, 4) === 'RIFF' && text(bytes, 8, 12) === 'WEBP') return 'image/webp'
  if (text(bytes, 4, 8) === 'ftyp') return sniffBrands(bytes)
  return undefined
}

/** Reads the brands of an ISO base media file: the major one, then the compatible ones (ISO/IEC 14496-12, 4.3). */
function sniffBrands(bytes: Buffer): ImageMediaType | undefined {
  const end = Math.min(bytes.readUInt32BE(0), bytes.length)
  const brands: string[] = []
  for (let at = 8; at + 4 <= end; at += 4) if (at !== 12) brands.push(text(bytes, at, at + 4))
  if (brands.some((brand) => AVIF_BRANDS.has(brand))) return 'image/avif'
  if (HEIC_DECODABLE && brands.some((brand) => HEIC_BRANDS.has(brand))) return 'image/heic'
  return undefined
}

function text(bytes: Buffer, start: number, end: number): string {
  return bytes.toString('latin1', start, end)
}
