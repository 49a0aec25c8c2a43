/** Why a file cannot be shown as a picture, with the sentence that its owner reads. */
export const UNDECODABLE_DETAILS = {
  undecodable: 'The file is not a JPEG, PNG, WebP or AVIF picture that can be read.',
  truncated: 'The file ends before the picture is complete.',
  too_many_pixels: 'The picture has more than 50 megapixels.',
} as const

export type UndecodableCode = keyof typeof UNDECODABLE_DETAILS

/** The file, not our machinery, is at fault: trying again gives the same. `detail` may be shown to the owner. */
export class UndecodableImageError extends Error {
  readonly code: UndecodableCode
  readonly detail: string

  constructor(code: UndecodableCode, options?: ErrorOptions) {
    super(UNDECODABLE_DETAILS[code], options)
    this.name = 'UndecodableImageError'
    this.code = code
    this.detail = UNDECODABLE_DETAILS[code]
  }
}

/** What libvips and the codecs beneath it say, most telling first. They have no error codes, only these words. */
const SIGNS: readonly (readonly [RegExp, UndecodableCode])[] = [
  [/exceeds pixel limit|exceeds security limits|maximum image (size|width|height)/i, 'too_many_pixels'],
  [/corrupt/i, 'undecodable'],
  [/premature end|truncated|unexpected end|end of (stream|file)|end-of-file|not enough data|read gave|partial/i, 'truncated'],
]

/**
 * Failures of the machine, not of the file: they must be tried again, so they are passed on as they are. So is the image
 * library's timeout: it counts time on the wall, which a busy machine uses up with any picture.
 */
const NOT_THE_FILE = /timeout:|input file is missing|no such file|permission denied|too many open files|out of memory|unable to (open|write)|no space left/i

/**
 * Sorts an error of the image library: the file's fault becomes an `UndecodableImageError` (with the original as
 * its cause), anything else is given back as it came, so that a worker tries again.
 */
export function explainImageError(error: unknown): unknown {
  if (!(error instanceof Error) || error.constructor !== Error || NOT_THE_FILE.test(error.message)) return error
  const sign = SIGNS.find(([words]) => words.test(error.message))
  return new UndecodableImageError(sign?.[1] ?? 'undecodable', { cause: error })
}
