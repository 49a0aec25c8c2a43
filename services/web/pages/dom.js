/**
 * Makes an element: functions become listeners (`onclick`), everything else an attribute unless it is null or false.
 * Texts become text nodes. Nothing on this page is ever parsed as HTML.
 */
export function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag)
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === 'function') node.addEventListener(name.slice(2), value)
    else if (value !== null && value !== false) node.setAttribute(name, value === true ? '' : String(value))
  }
  node.append(...children.filter((child) => child !== null))
  return node
}

/** The element with that id, which home.html has. */
export function byId(id) {
  return document.getElementById(id)
}

/** A time as people say it, with the exact one to hover over. */
export function timeOf(iso) {
  const date = new Date(iso)
  return make('time', { datetime: iso, title: date.toLocaleString() }, ago(date))
}

const UNITS = [
  ['year', 31_557_600],
  ['month', 2_629_800],
  ['day', 86_400],
  ['hour', 3_600],
  ['minute', 60],
]

function ago(date) {
  const seconds = (Date.now() - date.getTime()) / 1_000
  const format = new Intl.RelativeTimeFormat('en', { numeric: 'auto' })
  const unit = UNITS.find(([, length]) => seconds >= length)
  return unit === undefined ? 'just now' : format.format(-Math.floor(seconds / unit[1]), unit[0])
}

const HUES = 360

/** The round place of a face: the picture, or until there is one the initial on a colour of its own. */
export function avatarOf(account) {
  if (account.avatarUrl !== null) return make('img', { class: 'avatar', src: account.avatarUrl, alt: '' })
  const avatar = make('span', { class: 'avatar', 'aria-hidden': 'true' }, Array.from(account.displayName)[0] ?? '')
  let hash = 0
  for (const character of account.username) hash = (hash * 31 + character.codePointAt(0)) % HUES
  avatar.style.setProperty('--hue', String(hash))
  return avatar
}

/** Where a profile is shown. */
export function profileLink(username) {
  return `#/@${encodeURIComponent(username)}`
}
