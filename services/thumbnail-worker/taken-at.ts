import readExif from 'exif-reader'

/** Older than the oldest photograph, or later than PostgreSQL and JSON agree upon: a camera's clock was never set. */
const YEAR_MIN = 1826
const YEAR_MAX = 9999

const MINUTE_MS = 60_000

/**
 * When a picture was taken: EXIF's DateTimeOriginal, at its OffsetTimeOriginal where the camera wrote one, else as
 * if it had been UTC. EXIF is written by thousands of devices, often wrongly: what cannot be read is null.
 */
export function readTakenAt(exif: Buffer | undefined): Date | null {
  if (exif === undefined) return null
  try {
    const photo = readExif(exif).Photo
    const local: unknown = photo?.DateTimeOriginal
    if (!(local instanceof Date)) return null
    const takenAt = new Date(local.getTime() - offsetMinutes(photo?.OffsetTimeOriginal) * MINUTE_MS)
    const year = takenAt.getUTCFullYear()
    return year >= YEAR_MIN && year <= YEAR_MAX ? takenAt : null
  } catch {
    return null
  }
}

/** Reads "+02:00"; anything else is no offset. */
function offsetMinutes(text: unknown): number {
  const [, sign, hours, minutes] = (typeof text === 'string' && /^([+-])(\d\d):(\d\d)/.exec(text)) || []
  if (hours === undefined || minutes === undefined) return 0
  return (sign === '-' ? -1 : 1) * (Number(hours) * 60 + Number(minutes))
}
