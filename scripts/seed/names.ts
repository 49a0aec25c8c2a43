const FIRST_NAMES = [
  'ada', 'bela', 'chen', 'dara', 'elif', 'femi', 'gita', 'hugo', 'ines', 'jun', 'kofi', 'lena', 'milo', 'nora',
  'omar', 'petra', 'quinn', 'rosa', 'sami', 'tala', 'uma', 'vito', 'wren', 'xenia', 'yuki', 'zoe',
]

const PLACES = [
  'the harbour', 'the ridge', 'the old road', 'the lake', 'the north face', 'the river bend', 'the meadow', 'the pass',
]
const MOMENTS = ['at dawn', 'after the rain', 'in the last light', 'on a slow afternoon', 'before the storm', 'in May']
const TAGS = ['#landscape', '#hiking', '#light', '#outdoors', '#monogram', '#quiet']

/** Every seeded account signs in with it: a seeded system is for looking at, not for keeping. */
export const SEED_PASSWORD = 'monogram-demo'

/** The username of the seeded account at that rank: the first 26 are plain first names. */
export function usernameAt(rank: number): string {
  const name = FIRST_NAMES[rank % FIRST_NAMES.length] ?? 'ada'
  const round = Math.floor(rank / FIRST_NAMES.length)
  return round === 0 ? name : `${name}_${round + 1}`
}

export function displayNameAt(rank: number): string {
  const username = usernameAt(rank)
  return username.charAt(0).toUpperCase() + username.slice(1).replace('_', ' ')
}

/** A caption for the picture of that number, with a tag or two. */
export function captionAt(number: number): string {
  const place = PLACES[number % PLACES.length] ?? ''
  const moment = MOMENTS[Math.floor(number / PLACES.length) % MOMENTS.length] ?? ''
  const tag = TAGS[number % TAGS.length] ?? ''
  return `${place.charAt(0).toUpperCase()}${place.slice(1)} ${moment} ${tag}`
}
