/** Degrees; south and west are negative. */
export interface Position {
  latitude: number
  longitude: number
}

export interface ExifFields {
  gps?: Position
  takenAt?: Date
}

type Directory = Record<string, string>

/** EXIF directories by the names that the image library gives them: 0 the picture, 2 the photograph, 3 GPS. */
export interface ExifDirectories {
  IFD0: Directory
  IFD2: Directory
  IFD3: Directory
}

/** EXIF as a telephone's camera writes it, to be attached to a picture. Times are written as UTC, with the offset. */
export function exifWith({ gps, takenAt }: ExifFields): ExifDirectories {
  return {
    IFD0: { Make: 'Monogram', Model: 'Rendered landscape' },
    IFD2: takenAt === undefined ? {} : { DateTimeOriginal: exifTime(takenAt), OffsetTimeOriginal: '+00:00' },
    IFD3:
      gps === undefined
        ? {}
        : {
            GPSLatitudeRef: gps.latitude < 0 ? 'S' : 'N',
            GPSLatitude: sexagesimal(gps.latitude),
            GPSLongitudeRef: gps.longitude < 0 ? 'W' : 'E',
            GPSLongitude: sexagesimal(gps.longitude),
          },
  }
}

/** "2026:11:22 21:15:00" */
function exifTime(time: Date): string {
  return time.toISOString().slice(0, 19).replaceAll('-', ':').replace('T', ' ')
}

/** Degrees, minutes and seconds as three rationals. */
function sexagesimal(degrees: number): string {
  const hundredths = Math.round(Math.abs(degrees) * 360_000)
  return `${Math.floor(hundredths / 360_000)}/1 ${Math.floor(hundredths / 6_000) % 60}/1 ${hundredths % 6_000}/100`
}
