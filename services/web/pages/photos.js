import { call, explain } from './api.js'
import { paintBlurhash } from './blurhash.js'
import { avatarOf, byId, make, profileLink, timeOf } from './dom.js'
import { session } from './session.js'

const PAGE_PHOTOS = 24
/** The next page is asked for while the end of this one is still so far away. */
const AHEAD = '900px'
/** A third wider than a card: most pictures are, and cards cut them to squares. */
const CARD_SIZES = '(max-width: 38rem) 133vw, 29rem'

// Beside the photo is outside of it, and a link leads away from it.
byId('viewer').addEventListener('click', ({ target, currentTarget }) => {
  if (target === currentTarget || target.closest('a') !== null) currentTarget.close()
})

/** A list of photos at an address of the API, which grows as one scrolls. */
export function photoList(path, { empty, signal }) {
  const grid = make('ul', { class: 'grid' })
  const note = make('p', { class: 'note', role: 'status' })
  const more = make('button', { type: 'button', class: 'quiet more', onclick: load }, 'More')
  const observer = new IntersectionObserver(([entry]) => entry.isIntersecting && load(), { rootMargin: AHEAD })
  signal.addEventListener('abort', () => observer.disconnect())
  let cursor = null
  let loading = false

  async function load() {
    if (loading) return
    loading = true
    observer.disconnect()
    note.textContent = 'Loading …'
    try {
      const query = new URLSearchParams({ limit: String(PAGE_PHOTOS), ...(cursor !== null && { cursor }) })
      const { items, next } = await call('GET', `${path}?${query}`, { signal })
      grid.append(...items.map(photoCard))
      cursor = next
      more.hidden = next === null
      more.textContent = 'More'
      note.textContent = grid.childElementCount === 0 ? empty : ''
      // To observe anew is to be told anew, also when the end is still in sight.
      if (next !== null) observer.observe(more)
    } catch (error) {
      if (signal.aborted) return
      note.textContent = explain(error)
      more.textContent = 'Try again'
    } finally {
      loading = false
    }
  }

  void load()
  return make('div', {}, grid, note, more)
}

function photoCard(photo) {
  const open = make('button', { type: 'button', class: 'picture' }, ...pictureOf(photo))
  const card = make(
    'li',
    { class: 'card' },
    open,
    make('div', { class: 'line' }, authorOf(photo), photo.publishedAt === null ? null : timeOf(photo.publishedAt)),
    photo.caption === '' ? null : make('p', { class: 'caption' }, photo.caption),
  )
  open.addEventListener('click', () => openPhoto(photo, () => card.remove()))
  return card
}

function authorOf({ account }) {
  return make('a', { class: 'author', href: profileLink(account.username) }, avatarOf(account), make('span', {}, account.displayName))
}

/** The blurred placeholder, and over it the picture as soon as it is there. */
function pictureOf(photo) {
  const placeholder = make('canvas', { 'aria-hidden': 'true' })
  if (photo.blurhash !== null) paintBlurhash(placeholder, photo.blurhash, photo.width / photo.height)
  const small = photo.renditions.find(({ name }) => name === 'small')
  const image = make('img', {
    alt: altOf(photo),
    loading: 'lazy',
    decoding: 'async',
    sizes: CARD_SIZES,
    srcset: photo.renditions.map(({ url, width }) => `${url} ${width}w`).join(', '),
    src: small?.url ?? null,
    onload: () => image.classList.add('loaded'),
    onerror: () => image.classList.add('loaded'),
  })
  return [placeholder, image]
}

function altOf({ caption, account }) {
  return caption === '' ? `A photo by ${account.displayName}` : caption
}

/** Shows a photo alone and large; its owner may delete it there. */
function openPhoto(photo, onDeleted) {
  const dialog = byId('viewer')
  const large = photo.renditions.find(({ name }) => name === 'large')
  const note = make('p', { class: 'note', role: 'alert' })
  const own = photo.account.id === session()?.account.id
  const remove = make('button', { type: 'button', class: 'danger', onclick: () => deletePhoto(photo, note, onDeleted) }, 'Delete')
  const close = make('button', { type: 'button', class: 'quiet', onclick: () => dialog.close() }, 'Close')
  const picture = make('img', { src: large?.url ?? null, alt: altOf(photo), width: large?.width ?? null, height: large?.height ?? null })
  dialog.replaceChildren(
    picture,
    make(
      'div',
      { class: 'about' },
      make('div', { class: 'line' }, authorOf(photo), photo.publishedAt === null ? null : timeOf(photo.publishedAt)),
      photo.caption === '' ? null : make('p', { class: 'caption' }, photo.caption),
      note,
      make('div', { class: 'actions' }, own ? remove : null, close),
    ),
  )
  dialog.setAttribute('aria-label', altOf(photo))
  dialog.showModal()
  close.focus()
}

async function deletePhoto({ id }, note, onDeleted) {
  if (!confirm('Delete this photo for good?')) return
  try {
    await call('DELETE', `/v1/photos/${id}`)
    byId('viewer').close()
    onDeleted()
  } catch (error) {
    note.textContent = explain(error)
  }
}
