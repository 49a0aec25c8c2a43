// The format is described at https://github.com/woltapp/blurhash/blob/master/Algorithm.md

const DIGITS = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz#$%*+,-.:;=?@[]^_{|}~'
const SIDE_PIXELS = 32

function decode83(text) {
  return Array.from(text).reduce((value, digit) => value * 83 + DIGITS.indexOf(digit), 0)
}

function toLinear(value) {
  const v = value / 255
  return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4
}

function toSrgb(linear) {
  const v = Math.min(1, Math.max(0, linear))
  return Math.round(255 * (v <= 0.0031308 ? v * 12.92 : 1.055 * v ** (1 / 2.4) - 0.055))
}

/** The waves of a hash: how many across and down, and the red, green and blue of each; null if it is malformed. */
function readWaves(hash) {
  const size = decode83(hash[0] ?? '0')
  const across = (size % 9) + 1
  const down = Math.floor(size / 9) + 1
  if (hash.length !== 4 + 2 * across * down) return null
  const peak = (decode83(hash[1]) + 1) / 166
  const mean = decode83(hash.slice(2, 6))
  const colours = [[mean >> 16, (mean >> 8) & 255, mean & 255].map(toLinear)]
  for (let at = 6; at < hash.length; at += 2) {
    const packed = decode83(hash.slice(at, at + 2))
    const parts = [Math.floor(packed / 361), Math.floor(packed / 19) % 19, packed % 19]
    colours.push(parts.map((part) => Math.sign(part - 9) * ((part - 9) / 9) ** 2 * peak))
  }
  return { across, down, colours }
}

/** Paints a hash onto a canvas, in the proportions of the picture it stands for. Leaves it empty if it cannot. */
export function paintBlurhash(canvas, hash, aspect) {
  canvas.width = Math.max(1, Math.round(SIDE_PIXELS * Math.min(1, aspect)))
  canvas.height = Math.max(1, Math.round(SIDE_PIXELS / Math.max(1, aspect)))
  const waves = readWaves(hash)
  const context = canvas.getContext('2d')
  if (waves === null || context === null) return
  const { across, down, colours } = waves
  const image = context.createImageData(canvas.width, canvas.height)
  for (let y = 0; y < canvas.height; y++) {
    for (let x = 0; x < canvas.width; x++) {
      const sum = [0, 0, 0]
      for (let j = 0; j < down; j++) {
        const vertical = Math.cos((Math.PI * y * j) / canvas.height)
        for (let i = 0; i < across; i++) {
          const weight = vertical * Math.cos((Math.PI * x * i) / canvas.width)
          colours[j * across + i].forEach((part, channel) => (sum[channel] += part * weight))
        }
      }
      image.data.set([...sum.map(toSrgb), 255], 4 * (y * canvas.width + x))
    }
  }
  context.putImageData(image, 0, 0)
}
