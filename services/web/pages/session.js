/** Who is signed in, for as long as the tab lives. */
const KEY = 'monogram.session'

/** `session` when somebody signs in or out. */
export const changes = new EventTarget()

let current = JSON.parse(sessionStorage.getItem(KEY) ?? 'null')

/** `{ account, token }` as the API gave them, or null. */
export function session() {
  return current
}

export function beginSession({ account, token }) {
  current = { account, token }
  sessionStorage.setItem(KEY, JSON.stringify(current))
  changes.dispatchEvent(new Event('session'))
}

export function endSession() {
  current = null
  sessionStorage.removeItem(KEY)
  changes.dispatchEvent(new Event('session'))
}
