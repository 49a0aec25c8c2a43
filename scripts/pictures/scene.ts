import { seededRandom } from './random.ts'

export type Rgb = readonly [red: number, green: number, blue: number]

/** What a landscape is made of. All lengths are fractions of the picture's height, colours 0 to 255. */
export interface Scene {
  skyTop: Rgb
  skyBottom: Rgb
  sun: { x: number; y: number; radius: number; colour: Rgb }
  /** From the farthest to the nearest. */
  hills: readonly Hill[]
  cloudCover: number
  /** A table of noise, read with wrapping. */
  noise: Float32Array
  grain: number
}

interface Hill {
  colour: Rgb
  horizon: number
  waves: readonly { height: number; frequency: number; phase: number }[]
  texture: number
}

export const NOISE_SIDE = 256

type Palette = readonly [skyTop: Rgb, skyBottom: Rgb, sun: Rgb, farHills: Rgb, nearHills: Rgb]

const NOON: Palette = [[64, 120, 200], [196, 220, 240], [255, 250, 220], [120, 150, 180], [40, 92, 48]]

const PALETTES: readonly Palette[] = [
  NOON,
  [[40, 40, 96], [248, 150, 88], [255, 214, 140], [140, 92, 110], [44, 30, 40]], // dusk
  [[96, 150, 190], [250, 226, 190], [255, 240, 200], [170, 160, 140], [150, 112, 60]], // desert
  [[20, 28, 60], [92, 110, 150], [236, 240, 250], [70, 84, 116], [22, 34, 44]], // moonlight
  [[120, 170, 210], [236, 240, 244], [255, 255, 250], [176, 196, 210], [232, 238, 244]], // snow
  [[86, 110, 120], [190, 200, 196], [240, 240, 220], [96, 124, 110], [60, 110, 50]], // rain
]

/** Thinks up a landscape; the same seed gives the same one. */
export function thinkUpScene(seed: number): Scene {
  const random = seededRandom(seed)
  const between = (low: number, high: number): number => low + (high - low) * random()
  const [skyTop, skyBottom, sunColour, far, near] = PALETTES[Math.floor(random() * PALETTES.length)] ?? NOON
  const hillCount = 3 + Math.floor(random() * 3)
  const hills = Array.from({ length: hillCount }, (_, index): Hill => {
    const nearness = index / (hillCount - 1)
    return {
      colour: vary(mix(far, near, nearness), 18, random),
      horizon: 0.45 + 0.4 * nearness + between(-0.05, 0.05),
      waves: [1, 2, 5, 11].map((frequency) => ({
        height: (0.09 / frequency) * between(0.5, 1.5),
        frequency: frequency * between(1.5, 4),
        phase: between(0, 2 * Math.PI),
      })),
      texture: 14 + 30 * nearness,
    }
  })
  return {
    skyTop: vary(skyTop, 24, random),
    skyBottom: vary(skyBottom, 24, random),
    sun: { x: between(0.15, 1.2), y: between(0.1, 0.4), radius: between(0.03, 0.08), colour: sunColour },
    hills,
    cloudCover: between(0.1, 0.9),
    noise: Float32Array.from({ length: NOISE_SIDE * NOISE_SIDE }, random),
    grain: between(2, 6),
  }
}

export function mix(from: Rgb, to: Rgb, share: number): Rgb {
  return [from[0] + (to[0] - from[0]) * share, from[1] + (to[1] - from[1]) * share, from[2] + (to[2] - from[2]) * share]
}

function vary(colour: Rgb, by: number, random: () => number): Rgb {
  return [colour[0] + (random() - 0.5) * by, colour[1] + (random() - 0.5) * by, colour[2] + (random() - 0.5) * by]
}
