import { call, explain } from './api.js'
import { avatarOf, make } from './dom.js'
import { photoList } from './photos.js'
import { session } from './session.js'

/** Shows somebody's profile in `view`; without signing in, too. */
export async function showProfile(view, username, signal) {
  view.replaceChildren(make('p', { class: 'note', role: 'status' }, 'Loading …'))
  const path = `/v1/accounts/${encodeURIComponent(username)}`
  try {
    const account = await call('GET', path, { signal })
    document.title = `${account.displayName} · Monogram`
    view.replaceChildren(
      headerOf(account, signal),
      photoList(`/v1/accounts/${account.id}/photos`, { empty: 'No photos yet.', signal }),
    )
    view.querySelector('h1').focus({ preventScroll: true })
  } catch (error) {
    if (!signal.aborted) view.replaceChildren(make('p', { class: 'note', role: 'alert' }, explain(error)))
  }
}

function headerOf(account, signal) {
  const counts = make('p', { class: 'counts' })
  const note = make('p', { class: 'note', role: 'alert' })
  const me = session()?.account
  const follows = me !== undefined && me.id !== account.id
  drawCounts(counts, account)
  return make(
    'header',
    { class: 'profile' },
    avatarOf(account),
    make(
      'div',
      {},
      make('h1', { tabindex: -1 }, account.displayName),
      make('p', { class: 'handle' }, `@${account.username}${account.relationship?.followedBy ? ' · follows you' : ''}`),
      counts,
      account.bio === '' ? null : make('p', { class: 'bio' }, account.bio),
      note,
    ),
    follows ? followButton(account, { counts, note, signal }) : null,
  )
}

function drawCounts(counts, { photoCount, followerCount, followingCount }) {
  const format = new Intl.NumberFormat('en', { notation: 'compact' })
  const told = [
    [photoCount, photoCount === 1 ? 'photo' : 'photos'],
    [followerCount, followerCount === 1 ? 'follower' : 'followers'],
    [followingCount, 'following'],
  ]
  counts.replaceChildren(...told.map(([count, noun]) => make('span', {}, make('strong', {}, format.format(count)), ` ${noun}`)))
}

function followButton(account, { counts, note, signal }) {
  let following = account.relationship?.following ?? false
  const button = make('button', { type: 'button', onclick: toggle })
  draw()

  function draw() {
    button.textContent = following ? 'Unfollow' : 'Follow'
    button.classList.toggle('quiet', following)
  }

  async function toggle() {
    note.textContent = ''
    try {
      const relationship = await call(following ? 'DELETE' : 'PUT', `/v1/accounts/${account.id}/follow`, { signal })
      following = relationship.following
      draw()
      drawCounts(counts, await call('GET', `/v1/accounts/${account.id}`, { signal }))
    } catch (error) {
      if (!signal.aborted) note.textContent = explain(error)
    }
  }

  return button
}
