import { execFile } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { fitInside } from '#platform/images/fit-inside.ts'
import type { Size } from '#platform/images/fit-inside.ts'
import { openImage, openPixels, toPixels } from '#platform/images/open-image.ts'
import type { Pixels } from '#platform/images/open-image.ts'
import { renderRenditions } from '../../services/thumbnail-worker/render-renditions.ts'
import { JPEG_OPTIONS, RENDITION_SPECS } from '../../services/thumbnail-worker/rendition-specs.ts'
import { makePicture } from '../pictures/make-picture.ts'
import { medianRates, printRates } from './rounds.ts'

/**
 * Renditions of a 12-megapixel JPEG, as many at once as the machine has cores. The ceiling is what the codecs alone
 * cost: decoding at half size and encoding the four sizes, without any resizing between, by libjpeg-turbo's own
 * programs where they are installed. The naive way opens the original four times.
 */
const IMAGES = 8
const IN_FLIGHT = 2
const ORIGINAL: Size = { width: 4_000, height: 3_000 }
const ORIGINAL_QUALITY = 98

const run = promisify(execFile)

/** Runs `IMAGES` of these, `IN_FLIGHT` at a time. */
async function inFlight(work: () => Promise<unknown>): Promise<void> {
  let left = IMAGES
  const lane = async (): Promise<void> => {
    while (left-- > 0) await work()
  }
  await Promise.all(Array.from({ length: IN_FLIGHT }, lane))
}

async function fourPipelines(original: Buffer): Promise<void> {
  for (const { side } of RENDITION_SPECS) {
    const box = { width: side, height: side, fit: 'inside', withoutEnlargement: true } as const
    await openImage(original).autoOrient().resize(box).jpeg(JPEG_OPTIONS).toBuffer()
  }
}

/** The cascade's first and last steps alone: it decodes to the largest size, and encodes pixels that are there. */
async function sharpCodecs(original: Buffer, pictures: readonly Pixels[]): Promise<void> {
  await toPixels(openImage(original).resize({ ...fitInside(ORIGINAL, RENDITION_SPECS[0].side), fit: 'fill' }))
  for (const picture of pictures) await openPixels(picture).jpeg(JPEG_OPTIONS).toBuffer()
}

/** One shell for all five programs, so that starting them costs next to nothing. */
async function codecPrograms(folder: string): Promise<void> {
  const encodes = RENDITION_SPECS.map(({ name }) => `cjpeg -quality ${JPEG_OPTIONS.quality} -outfile /dev/null ${name}.ppm`)
  const decode = 'djpeg -scale 1/2 -outfile /dev/null original.jpg'
  await run('sh', ['-c', [decode, ...encodes].join(' && ')], { cwd: folder })
}

/** A binary portable pixmap, which cjpeg reads. */
function toPixmap({ data, width, height }: Pixels): Buffer {
  return Buffer.concat([Buffer.from(`P6\n${width} ${height}\n255\n`), data])
}

async function isInstalled(program: string): Promise<boolean> {
  return run('which', [program]).then(
    () => true,
    () => false,
  )
}

const folder = await mkdtemp(join(tmpdir(), 'monogram-bench-'))
try {
  const original = await makePicture({ seed: 5, ...ORIGINAL, quality: ORIGINAL_QUALITY })
  const pictures: Pixels[] = []
  await writeFile(join(folder, 'original.jpg'), original)
  for (const { name, side } of RENDITION_SPECS) {
    const picture = await toPixels(openImage(original).resize({ ...fitInside(ORIGINAL, side), fit: 'fill' }))
    pictures.push(picture)
    await writeFile(join(folder, `${name}.ppm`), toPixmap(picture))
  }
  const hasPrograms = (await isInstalled('djpeg')) && (await isInstalled('cjpeg'))
  if (!hasPrograms) {
    console.log('djpeg and cjpeg are not on the PATH (Debian: apt-get install libjpeg-turbo-progs): the ceiling is sharp itself.')
  }
  const rates = await medianRates(IMAGES, {
    ...(hasPrograms && { 'djpeg 1/2 + 4 × cjpeg (ceiling)': () => inFlight(() => codecPrograms(folder)) }),
    [`sharp alone, decode to 1080 + 4 × encode${hasPrograms ? '' : ' (ceiling)'}`]: () =>
      inFlight(() => sharpCodecs(original, pictures)),
    'cascade': () => inFlight(() => renderRenditions(original)),
    'four pipelines (naive)': () => inFlight(() => fourPipelines(original)),
  })
  printRates(`pictures/s, ${(original.length / 1e6).toFixed(1)} MB of 12 megapixels, ${IN_FLIGHT} at once`, rates)
} finally {
  await rm(folder, { recursive: true, force: true })
}
