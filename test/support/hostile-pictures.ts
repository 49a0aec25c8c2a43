import { crc32, createDeflate } from 'node:zlib'
import { buffer } from 'node:stream/consumers'
import { Readable } from 'node:stream'
import { makePicture } from '../../scripts/pictures/make-picture.ts'

/** 16,384 squared is 268 megapixels. */
const BOMB_SIDE = 16_384

/** More than the 20 MB that an upload may have. */
export const TOO_LARGE_BYTES = 21 * 1024 * 1024

/**
 * A valid PNG of 268 megapixels, all black, in 32 KB: one bit a pixel, nothing but zeros to deflate. It is written
 * row by row, so making it takes no memory to speak of.
 */
export async function makePngBomb(): Promise<Buffer> {
  const row = Buffer.alloc(1 + BOMB_SIDE / 8)
  const rows = Readable.from((function* () {
    for (let y = 0; y < BOMB_SIDE; y++) yield row
  })())
  const pixels = await buffer(rows.pipe(createDeflate({ level: 9 })))
  const header = Buffer.alloc(13)
  header.writeUInt32BE(BOMB_SIDE, 0)
  header.writeUInt32BE(BOMB_SIDE, 4)
  header.writeUInt8(1, 8) // bits a pixel; the other fields are 0: grey, deflate, no interlace
  const signature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a])
  return Buffer.concat([signature, pngChunk('IHDR', header), pngChunk('IDAT', pixels), pngChunk('IEND', Buffer.alloc(0))])
}

function pngChunk(type: string, content: Buffer): Buffer {
  const length = Buffer.alloc(4)
  length.writeUInt32BE(content.length)
  const body = Buffer.concat([Buffer.from(type, 'latin1'), content])
  const checksum = Buffer.alloc(4)
  checksum.writeUInt32BE(crc32(body))
  return Buffer.concat([length, body, checksum])
}

/** A JPEG with a good header whose second half is missing. */
export async function makeTruncatedJpeg(): Promise<Buffer> {
  const picture = await makePicture({ seed: 101, width: 640, height: 480 })
  return picture.subarray(0, Math.floor(picture.length / 2))
}

/** A JPEG of full length with a good header and a damaged middle. */
export async function makeDamagedJpeg(): Promise<Buffer> {
  const picture = await makePicture({ seed: 102, width: 640, height: 480 })
  picture.fill(0xff, Math.floor(picture.length / 2), Math.floor(picture.length / 2) + 400)
  return picture
}

/** A JPEG whose header claims 65,500 pixels each way. */
export async function makeJpegBomb(): Promise<Buffer> {
  const picture = await makePicture({ seed: 103, width: 64, height: 64 })
  const frame = picture.indexOf(Buffer.from([0xff, 0xc0]))
  picture.writeUInt16BE(65_500, frame + 5)
  picture.writeUInt16BE(65_500, frame + 7)
  return picture
}

/** Script that a browser would run if this were served as what it claims to be. */
const SCRIPT = '<script>document.title = "executed"</script>'

/** A JPEG that is also an HTML page and, by its end, a zip archive (empty). */
export async function makePolyglot(): Promise<Buffer> {
  const picture = await makePicture({ seed: 104, width: 320, height: 240 })
  const emptyZip = Buffer.concat([Buffer.from('PK\x05\x06', 'latin1'), Buffer.alloc(18)])
  return Buffer.concat([picture, Buffer.from(`<html>${SCRIPT}</html>`), emptyZip])
}

/** An SVG picture with a script in it. */
export function makeSvg(): Buffer {
  return Buffer.from(`<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="9" height="9">${SCRIPT}</svg>`)
}

/** An animated GIF of ten thousand frames, each of one pixel. */
export function makeManyFrameGif(): Buffer {
  const screen = Buffer.from('GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff', 'latin1')
  const frame = Buffer.from('\x21\xf9\x04\x00\x0a\x00\x00\x00\x2c\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02\x44\x01\x00', 'latin1')
  return Buffer.concat([screen, ...Array.from({ length: 10_000 }, () => frame), Buffer.from(';')])
}

/** Text, with a picture's name in mind. */
export function makeText(): Buffer {
  return Buffer.from('This is not a picture, whatever its name says.\n')
}

/** A picture that would be fine, were it not followed by so many zeros. */
export async function makeTooLarge(): Promise<Buffer> {
  const picture = await makePicture({ seed: 105, width: 320, height: 240 })
  return Buffer.concat([picture, Buffer.alloc(TOO_LARGE_BYTES - picture.length)])
}
