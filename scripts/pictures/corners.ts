import { openImage, toPixels } from '#platform/images/open-image.ts'
import type { Pixels } from '#platform/images/open-image.ts'
import type { Rgb } from './scene.ts'

/** The colours that mark the corners of an upright picture, so that its content says which way up it is. */
export const CORNER_COLOURS = {
  red: [220, 30, 30],
  green: [30, 190, 50],
  blue: [30, 50, 210],
  yellow: [235, 215, 40],
} as const satisfies Record<string, Rgb>

export type CornerColour = keyof typeof CORNER_COLOURS

export interface Corners {
  topLeft: CornerColour | 'none'
  topRight: CornerColour | 'none'
  bottomLeft: CornerColour | 'none'
  bottomRight: CornerColour | 'none'
}

/** What `findCorners` gives for a marked picture that is upright. */
export const UPRIGHT_CORNERS: Corners = { topLeft: 'red', topRight: 'green', bottomLeft: 'blue', bottomRight: 'yellow' }

/** A mark's side, as a share of the picture's shorter side. */
const MARK_SHARE = 0.2

/** Colours at most this far apart (in RGB space) count as the same: it covers JPEG and the change of a profile. */
const COLOUR_DISTANCE_MAX = 90

/** Paints the corner marks into a picture; alpha, if any, becomes opaque there. */
export function markCorners({ data, width, height, channels }: Pixels): void {
  const side = Math.max(1, Math.round(Math.min(width, height) * MARK_SHARE))
  const { red, green, blue, yellow } = CORNER_COLOURS
  for (const [colour, left, top] of [
    [red, 0, 0],
    [green, width - side, 0],
    [blue, 0, height - side],
    [yellow, width - side, height - side],
  ] as const) {
    for (let y = top; y < top + side; y++) {
      for (let x = left; x < left + side; x++) {
        const at = (y * width + x) * channels
        data.set(colour, at)
        if (channels === 4) data[at + 3] = 255
      }
    }
  }
}

/** Names the colours of a picture's corners as its pixels lie, whatever its EXIF orientation says. */
export async function findCorners(image: Uint8Array): Promise<Corners> {
  const { data, width, height, channels } = await toPixels(openImage(image).toColourspace('srgb'))
  const inset = Math.floor((Math.min(width, height) * MARK_SHARE) / 2)
  const colourAt = (x: number, y: number): CornerColour | 'none' => {
    const at = (y * width + x) * channels
    return nameColour([data[at] ?? 0, data[at + 1] ?? 0, data[at + 2] ?? 0])
  }
  return {
    topLeft: colourAt(inset, inset),
    topRight: colourAt(width - 1 - inset, inset),
    bottomLeft: colourAt(inset, height - 1 - inset),
    bottomRight: colourAt(width - 1 - inset, height - 1 - inset),
  }
}

function nameColour([red, green, blue]: Rgb): CornerColour | 'none' {
  for (const [name, colour] of Object.entries(CORNER_COLOURS) as [CornerColour, Rgb][]) {
    if (Math.hypot(red - colour[0], green - colour[1], blue - colour[2]) <= COLOUR_DISTANCE_MAX) return name
  }
  return 'none'
}
