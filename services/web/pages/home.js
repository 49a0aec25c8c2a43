import { call, explain } from './api.js'
import { byId, make, profileLink } from './dom.js'
import { photoList } from './photos.js'
import { showProfile } from './profile.js'
import { beginSession, changes, endSession, session } from './session.js'
import { startUploads } from './upload.js'

const PROFILE = /^#\/@(.+)$/

/** Aborted when the page turns to something else. */
let shown = new AbortController()

function show() {
  shown.abort()
  shown = new AbortController()
  byId('viewer').close()
  const me = session()?.account
  const username = usernameIn(location.hash)
  drawNavigation(me, username)
  byId('welcome').hidden = me !== undefined || username !== null
  byId('composer').hidden = me === undefined || (username !== null && username !== me.username)
  if (me === undefined) byId('uploads').replaceChildren()
  if (username !== null) return void showProfile(byId('view'), username, shown.signal)
  document.title = 'Monogram'
  if (me === undefined) byId('view').replaceChildren()
  else showFeed(byId('view'), shown.signal)
}

/** Another page: shown from its top, and whoever reads or tabs goes on there. */
function turn() {
  show()
  scrollTo(0, 0)
  byId('view').focus({ preventScroll: true })
}

function usernameIn(hash) {
  const encoded = PROFILE.exec(hash)?.[1]
  try {
    return encoded === undefined ? null : decodeURIComponent(encoded).toLowerCase()
  } catch {
    return encoded
  }
}

function drawNavigation(me, username) {
  const current = (is) => (is ? 'page' : null)
  const links =
    me === undefined
      ? [make('a', { href: '#/', 'aria-current': current(username === null) }, 'Sign in')]
      : [
          make('a', { href: '#/', 'aria-current': current(username === null), onclick: againIfHere }, 'Feed'),
          make('a', { href: profileLink(me.username), 'aria-current': current(username === me.username) }, `@${me.username}`),
          make('button', { type: 'button', class: 'link', onclick: () => void signOut() }, 'Sign out'),
        ]
  byId('links').replaceChildren(...links)
}

/** A click on the page one is on shows what is new. */
function againIfHere(event) {
  if (event.currentTarget.getAttribute('aria-current') === 'page') show()
}

function showFeed(view, signal) {
  const empty = 'Your feed is empty. Look somebody up by their username above, and follow them: their photos come here.'
  view.replaceChildren(make('h1', { class: 'hidden', tabindex: -1 }, 'Your feed'), photoList('/v1/feed', { empty, signal }))
}

async function signOut() {
  // Signed out here in any case; on the server too, if it can be reached.
  await call('DELETE', '/v1/sessions/current').catch(() => undefined)
  endSession()
}

function startSignIn() {
  const form = byId('sign-in')
  const note = byId('sign-in-note')
  const signsUp = () => new FormData(form).get('way') === 'up'

  form.addEventListener('change', ({ target }) => {
    if (target.name !== 'way') return
    byId('display-name').hidden = !signsUp()
    byId('sign-in-button').textContent = signsUp() ? 'Sign up' : 'Sign in'
    form.elements.password.autocomplete = signsUp() ? 'new-password' : 'current-password'
    note.textContent = ''
  })
  form.addEventListener('submit', async (event) => {
    event.preventDefault()
    note.textContent = ''
    byId('sign-in-button').disabled = true
    const { username, password, displayName } = form.elements
    const credentials = { username: username.value.trim(), password: password.value }
    const name = displayName.value.trim()
    try {
      const signedIn = signsUp()
        ? await call('POST', '/v1/accounts', { json: { ...credentials, ...(name !== '' && { displayName: name }) } })
        : await call('POST', '/v1/sessions', { json: credentials })
      form.reset()
      beginSession(signedIn)
    } catch (error) {
      note.textContent = explain(error)
    } finally {
      byId('sign-in-button').disabled = false
    }
  })
}

byId('look-up').addEventListener('submit', (event) => {
  event.preventDefault()
  const username = event.currentTarget.elements.who.value.trim().replace(/^@/, '')
  if (username !== '') location.hash = profileLink(username)
})
byId('skip').addEventListener('click', (event) => {
  event.preventDefault()
  byId('view').focus()
})
addEventListener('hashchange', turn)
changes.addEventListener('session', turn)
startSignIn()
startUploads({
  onPublished() {
    if (usernameIn(location.hash) === session()?.account.username) show()
  },
})
show()
