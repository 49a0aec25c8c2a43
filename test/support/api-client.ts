/** A client of the HTTP API that knows nothing of the code behind it: what it takes and gives is the contract's. */

export interface Account {
  id: string
  username: string
  displayName: string
  photoCount: number
  followerCount: number
  followingCount: number
  relationship: { following: boolean } | null
}

export interface Rendition {
  name: string
  url: string
  width: number
  height: number
  format: string
}

export interface Photo {
  id: string
  account: { id: string; username: string }
  status: string
  failure: { code: string; detail: string } | null
  caption: string
  width: number | null
  height: number | null
  blurhash: string | null
  takenAt: string | null
  publishedAt: string | null
  renditions: Rendition[]
}

export interface Page<T> {
  items: T[]
  next: string | null
}

export interface Problem {
  status: number
  code: string
  title: string
  detail: string
}

export interface Person {
  account: Account
  token: string
}

export interface Answer<T> {
  status: number
  headers: Headers
  body: T
}

export interface CallOptions {
  token?: string
  json?: unknown
  form?: FormData
  headers?: Record<string, string>
}

export interface ApiClient {
  /** One request to the next web process in turn; any status is an answer. */
  call<T = unknown>(method: string, path: string, options?: CallOptions): Promise<Answer<T>>
  /** A request that must succeed. Throws with the problem when the status is 400 or more. */
  ok<T>(method: string, path: string, options?: CallOptions): Promise<T>
  signUp(username: string): Promise<Person>
  upload(person: Person, picture: Uint8Array, fields?: { caption?: string; key?: string }): Promise<Photo>
  /** Every item of a list, page after page, to its end. */
  all<T>(path: string, options?: CallOptions & { limit?: number }): Promise<T[]>
  /** The bytes behind a URL of the API, such as a rendition's; with the headers of our answer, also if it leads elsewhere. */
  bytes(url: string): Promise<Answer<Uint8Array>>
}

export const PASSWORD = 'correct horse battery staple'

/** A client of several web processes, used in turn as a router would. */
export function apiClient(urls: readonly string[]): ApiClient {
  let turn = 0
  const nextUrl = (path: string): string => `${urls[turn++ % urls.length] ?? ''}${path}`

  async function call<T>(method: string, path: string, options: CallOptions = {}): Promise<Answer<T>> {
    const { token, json, form, headers } = options
    const response = await fetch(nextUrl(path), {
      method,
      headers: {
        ...(token !== undefined && { authorization: `Bearer ${token}` }),
        ...(json !== undefined && { 'content-type': 'application/json' }),
        ...headers,
      },
      ...(json !== undefined && { body: JSON.stringify(json) }),
      ...(form !== undefined && { body: form }),
    })
    const text = await response.text()
    const isJson = response.headers.get('content-type')?.includes('json') ?? false
    return { status: response.status, headers: response.headers, body: (isJson ? JSON.parse(text) : text) as T }
  }

  async function ok<T>(method: string, path: string, options: CallOptions = {}): Promise<T> {
    const answer = await call<T>(method, path, options)
    if (answer.status >= 400) throw new Error(`${method} ${path}: ${answer.status} ${JSON.stringify(answer.body)}`)
    return answer.body
  }

  return {
    call,
    ok,
    signUp: (username) => ok('POST', '/v1/accounts', { json: { username, password: PASSWORD } }),
    upload(person, picture, { caption, key } = {}) {
      return ok('POST', '/v1/photos', {
        token: person.token,
        form: uploadForm(picture, caption),
        ...(key !== undefined && { headers: { 'idempotency-key': key } }),
      })
    },
    async all<T>(path: string, { limit = 30, ...options }: CallOptions & { limit?: number } = {}) {
      const items: T[] = []
      let cursor: string | null = null
      do {
        const query: string = `limit=${limit}${cursor === null ? '' : `&cursor=${encodeURIComponent(cursor)}`}`
        const page: Page<T> = await ok('GET', `${path}?${query}`, options)
        if (page.next !== null && page.items.length !== limit) {
          throw new Error(`${path} gave ${page.items.length} items of ${limit} on a page that is not the last.`)
        }
        items.push(...page.items)
        cursor = page.next
      } while (cursor !== null)
      return items
    },
    async bytes(url) {
      const answer = await fetch(nextUrl(url), { redirect: 'manual' })
      const location = answer.headers.get('location')
      const response = location === null ? answer : await fetch(location)
      return { status: response.status, headers: answer.headers, body: new Uint8Array(await response.arrayBuffer()) }
    },
  }
}

export function uploadForm(picture: Uint8Array, caption?: string): FormData {
  const form = new FormData()
  if (caption !== undefined) form.set('caption', caption)
  form.set('file', new Blob([Buffer.from(picture)]), 'photo')
  return form
}
