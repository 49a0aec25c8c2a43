import pg from 'pg'

type TypeParser = (text: string) => unknown
const builtInParser: (oid: number, format?: 'text' | 'binary') => TypeParser = pg.types.getTypeParser

const INT8_OID = 20
const INT8_ARRAY_OID = 1016
const TEXT_ARRAY_OID = 1009
const TIMESTAMPTZ_OID = 1184

/** How a server in UTC writes a time of these millennia. */
const UTC_TIME = /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{1,6})?\+00$/
/** What makes the elements of an array more than the words between its commas. */
const INTRICATE_ARRAY = /["\\]|^.+\{|null/i

const builtInTime = builtInParser(TIMESTAMPTZ_OID)
const builtInTexts = builtInParser(TEXT_ARRAY_OID)

/**
 * How values come from the server. A 64-bit integer is never a JavaScript number: int8 arrives as bigint, int8[] as
 * bigint[]. Times and texts arrive as pg gives them, but their usual forms several times faster: they were a third of
 * what reading a photo cost.
 */
export const valueParsers: pg.CustomTypesConfig = {
  getTypeParser(oid: number, format?: 'text' | 'binary'): TypeParser {
    if (format === 'binary') return builtInParser(oid, format)
    if (oid === INT8_OID) return BigInt
    if (oid === INT8_ARRAY_OID) return parseInt8Array
    if (oid === TIMESTAMPTZ_OID) return parseTime
    if (oid === TEXT_ARRAY_OID) return parseTexts
    return builtInParser(oid, format)
  },
}

function parseInt8Array(text: string): bigint[] {
  return text === '{}' ? [] : text.slice(1, -1).split(',').map(BigInt)
}

function parseTexts(text: string): unknown {
  if (text === '{}') return []
  return INTRICATE_ARRAY.test(text) ? builtInTexts(text) : text.slice(1, -1).split(',')
}

/** `2026-06-01 12:34:56.789012+00`, what is below a millisecond cut off. */
function parseTime(text: string): unknown {
  if (!UTC_TIME.test(text)) return builtInTime(text)
  const year = twoDigits(text, 0) * 100 + twoDigits(text, 2)
  const [month, day] = [twoDigits(text, 5) - 1, twoDigits(text, 8)]
  const ms = Date.UTC(year, month, day, twoDigits(text, 11), twoDigits(text, 14), twoDigits(text, 17), milliseconds(text))
  // Date.UTC takes the first hundred years for those of the twentieth century.
  return year < 100 ? builtInTime(text) : new Date(ms)
}

function milliseconds(text: string): number {
  let ms = 0
  for (let at = 20, unit = 100; unit >= 1; at++, unit /= 10) {
    const digit = text.charCodeAt(at) - 48
    if (!(digit >= 0)) break
    ms += digit * unit
  }
  return ms
}

function twoDigits(text: string, at: number): number {
  return (text.charCodeAt(at) - 48) * 10 + text.charCodeAt(at + 1) - 48
}
