import type { Pixels } from '#platform/images/open-image.ts'
import { mix, NOISE_SIDE } from './scene.ts'
import type { Scene } from './scene.ts'

const NOISE_MASK = NOISE_SIDE - 1
/** How much of the glow around the sun is left at its edge's distance again. */
const GLOW = 0.35

/** Draws a landscape, upright. With `hasAlpha` it fades out towards its lower edge. */
export function drawScene(scene: Scene, width: number, height: number, hasAlpha: boolean): Pixels {
  const channels = hasAlpha ? 4 : 3
  const data = new Uint8ClampedArray(width * height * channels)
  const ridges = scene.hills.map((hill) =>
    Float32Array.from({ length: width }, (_, x) => {
      const along = (x / height) * 1.2
      return hill.waves.reduce((y, wave) => y + wave.height * Math.sin(along * wave.frequency + wave.phase), hill.horizon)
    }),
  )
  const { sun, noise, grain } = scene
  for (let y = 0, at = 0; y < height; y++) {
    const v = y / height
    const [skyRed, skyGreen, skyBlue] = mix(scene.skyTop, scene.skyBottom, Math.min(1, v * 1.6))
    for (let x = 0; x < width; x++, at += channels) {
      const u = x / height
      let nearest = scene.hills.length - 1
      while (nearest >= 0 && v < (ridges[nearest]?.[x] ?? 1)) nearest--
      const hill = scene.hills[nearest]
      let light = ((noise[((y & NOISE_MASK) * NOISE_SIDE + (x & NOISE_MASK)) | 0] ?? 0) - 0.5) * grain
      if (hill === undefined) {
        const distance = Math.hypot(u - sun.x, v - sun.y) / sun.radius
        const shine = distance < 1 ? 1 : GLOW / (distance * distance)
        const cloud = Math.max(0, smooth(noise, u * 3, v * 9) * 0.7 + smooth(noise, u * 11, v * 25) * 0.3 - 1 + scene.cloudCover)
        light += cloud * 110
        data[at] = skyRed + (sun.colour[0] - skyRed) * shine + light
        data[at + 1] = skyGreen + (sun.colour[1] - skyGreen) * shine + light
        data[at + 2] = skyBlue + (sun.colour[2] - skyBlue) * shine + light
      } else {
        const depth = v - (ridges[nearest]?.[x] ?? 0)
        light += (smooth(noise, u * 60, v * 90) - 0.5) * hill.texture - depth * 90
        data[at] = hill.colour[0] + light
        data[at + 1] = hill.colour[1] + light
        data[at + 2] = hill.colour[2] + light * 0.8
      }
      if (hasAlpha) data[at + 3] = 255 * Math.min(1, (1 - v) * 3)
    }
  }
  return { data: new Uint8Array(data.buffer), width, height, channels }
}

/** Noise between its lattice points, 0 to 1: linear both ways. */
function smooth(noise: Float32Array, x: number, y: number): number {
  const left = Math.floor(x)
  const top = Math.floor(y)
  const across = x - left
  const down = y - top
  const row = (top & NOISE_MASK) * NOISE_SIDE
  const below = ((top + 1) & NOISE_MASK) * NOISE_SIDE
  const column = left & NOISE_MASK
  const right = (left + 1) & NOISE_MASK
  const upper = (noise[row + column] ?? 0) * (1 - across) + (noise[row + right] ?? 0) * across
  const lower = (noise[below + column] ?? 0) * (1 - across) + (noise[below + right] ?? 0) * across
  return upper * (1 - down) + lower * down
}
