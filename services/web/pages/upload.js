import { ApiError, call, explain, idempotencyKey } from './api.js'
import { byId, make, profileLink } from './dom.js'
import { session } from './session.js'

const FILE_BYTES_MAX = 20 * 1024 * 1024
const PREVIEW_PIXELS = 96
const POLL_MS_MIN = 500
const POLL_MS_MAX = 4_000
const POLL_GROWTH = 1.3

/** How an upload ended, where the API gives no reason of its own. */
const ENDS = {
  published: 'Published.',
  review: 'Held: a moderator has to look at it first.',
  rejected: 'Rejected by the safety check.',
  failed: 'Failed.',
  removed: 'Taken down.',
}

/**
 * Lets people choose or drop a picture, and follows each upload to its end.
 *
 * @param onPublished called when one of them has become visible
 */
export function startUploads({ onPublished }) {
  const form = byId('composer')
  const input = byId('file')
  const caption = byId('caption')
  let chosen = null

  async function choose(file) {
    chosen = file
    byId('drop-text').textContent = file === null ? 'Choose a photo, or drop one anywhere' : file.name
    byId('details').hidden = file === null
    byId('compose-note').textContent = ''
    byId('preview').replaceChildren(...(file === null ? [] : [await previewOf(file)]))
    if (file !== null) caption.focus()
  }

  input.addEventListener('change', () => void choose(input.files[0] ?? null))
  form.addEventListener('submit', (event) => {
    event.preventDefault()
    if (chosen === null) return
    if (chosen.size > FILE_BYTES_MAX) {
      byId('compose-note').textContent = 'The picture is larger than 20 MB.'
      return
    }
    void upload(chosen, caption.value, onPublished)
    form.reset()
    void choose(null)
  })
  byId('discard').addEventListener('click', () => {
    form.reset()
    void choose(null)
  })
  acceptDrops((file) => {
    if (!form.hidden) void choose(file)
  })
}

/** Files dropped anywhere on the page; without this the browser would leave it for the picture. */
function acceptDrops(onFile) {
  const mark = (over) => document.body.classList.toggle('dragging', over && session() !== null)
  addEventListener('dragover', (event) => {
    event.preventDefault()
    mark(true)
  })
  addEventListener('dragleave', (event) => {
    if (event.relatedTarget === null) mark(false)
  })
  addEventListener('drop', (event) => {
    event.preventDefault()
    mark(false)
    const [file] = event.dataTransfer.files
    if (file !== undefined) onFile(file)
  })
}

/** A small canvas of the picture, upright; empty when the browser cannot read it (the server may still). */
async function previewOf(file) {
  const canvas = make('canvas', { class: 'preview', width: PREVIEW_PIXELS, height: PREVIEW_PIXELS, 'aria-hidden': 'true' })
  try {
    const bitmap = await createImageBitmap(file)
    const scale = PREVIEW_PIXELS / Math.min(bitmap.width, bitmap.height)
    const [width, height] = [bitmap.width * scale, bitmap.height * scale]
    canvas.getContext('2d').drawImage(bitmap, (PREVIEW_PIXELS - width) / 2, (PREVIEW_PIXELS - height) / 2, width, height)
    bitmap.close()
  } catch {
    // Nothing to show.
  }
  return canvas
}

async function upload(file, caption, onPublished) {
  const state = make('p', { class: 'state' })
  const actions = make('div', { class: 'actions' })
  const row = make('li', {}, await previewOf(file), make('div', {}, make('p', { class: 'name' }, caption || file.name), state), actions)
  const dismiss = make('button', { type: 'button', class: 'quiet', onclick: () => row.remove() }, 'Dismiss')
  const again = make('button', { type: 'button', onclick: () => void send() }, 'Try again')
  // One key for all tries: a first one whose answer was lost is found again instead of being done twice.
  const key = idempotencyKey()
  byId('uploads').prepend(row)

  function say(text, kind, ...buttons) {
    state.textContent = text
    row.className = kind
    actions.replaceChildren(...buttons)
  }

  async function send() {
    say('Sending …', 'busy')
    const form = new FormData()
    form.append('caption', caption)
    form.append('file', file)
    try {
      const { id } = await call('POST', '/v1/photos', { form, headers: { 'idempotency-key': key } })
      tell(await settled(id, () => say('Processing: making sizes, checking safety …', 'busy')))
    } catch (error) {
      const transient = !(error instanceof ApiError) || error.status >= 500 || error.status === 409
      say(explain(error), 'bad', ...(transient && session() !== null ? [again, dismiss] : [dismiss]))
    }
  }

  function tell({ status, failure, account }) {
    const good = status === 'published'
    const look = make('a', { class: 'button', href: profileLink(account.username) }, 'See it')
    say(failure?.detail ?? ENDS[status] ?? status, good ? 'good' : 'bad', ...(good ? [look, dismiss] : [dismiss]))
    if (good) onPublished()
  }

  await send()
}

/** Asks until the workers are done with a photo; a moment without the network does no harm. */
async function settled(id, onWaiting) {
  onWaiting()
  for (let pauseMs = POLL_MS_MIN; ; pauseMs = Math.min(pauseMs * POLL_GROWTH, POLL_MS_MAX)) {
    await new Promise((resolve) => setTimeout(resolve, pauseMs))
    try {
      const photo = await call('GET', `/v1/photos/${id}`)
      if (photo.status !== 'processing') return photo
    } catch (error) {
      if (error instanceof ApiError && error.status < 500) throw error
    }
  }
}
