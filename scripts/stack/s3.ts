import { randomBytes } from 'node:crypto'
import type { IncomingHttpHeaders } from 'node:http'
import { buildApp } from 'fauxqs'
import { freePort, LOOPBACK } from './free-port.ts'
import { storesInFiles } from './s3-files.ts'

type App = ReturnType<typeof buildApp>

export interface S3Options {
  /** The port to take; without one, or when it is taken, any that is free. */
  readonly port?: number
  /** Where to keep objects from one start to the next; without one they are in memory. */
  readonly directory?: string
  /** Asked about each request; what it gives is the answer instead of S3's. */
  readonly intercept?: (request: S3Request) => S3Refusal | null
}

export interface S3Request {
  readonly method: string
  /** With its query. */
  readonly url: string
  /** By lower-case name. */
  readonly headers: Readonly<IncomingHttpHeaders>
}

export interface S3Refusal {
  readonly status: number
  readonly code: string
}

/** A private S3 server of ours, on the loopback address, with one bucket. */
export interface S3Server {
  readonly port: number
  readonly bucket: string
  /** The variables that make a process use it, all but STORAGE_URL's prefix. */
  readonly environment: Readonly<Record<'STORAGE_URL' | 'AWS_ACCESS_KEY_ID' | 'AWS_SECRET_ACCESS_KEY', string>>
  stop(): Promise<void>
}

const BUCKET = 'monogram'
const REGION = 'us-east-1'
const ACCESS_KEY_ID = 'monogram'
const ERROR_BODY_TYPE = 'application/xml'

/**
 * Starts fauxqs in this process, which it ends with. What it holds is gone then unless it has a directory. Unlike
 * fauxqs alone it listens to this machine only, takes our access key and no other, lets signed URLs expire, and lists
 * unfinished uploads.
 */
export async function startS3({ port: wanted, directory, intercept }: S3Options = {}): Promise<S3Server> {
  const stores = directory === undefined ? undefined : await storesInFiles(directory)
  const app = buildApp({ logger: false, ...(stores !== undefined && { stores }) })
  if (intercept !== undefined) refuseAsTold(app, intercept)
  refuseStrangers(app)
  listUploads(app)
  const port = await freePort(wanted)
  await app.listen({ port, host: LOOPBACK })
  const secret = randomBytes(16).toString('hex')
  await app.inject({ method: 'PUT', url: `/${BUCKET}`, headers: { authorization: credentialOf(ACCESS_KEY_ID) } })
  return {
    port,
    bucket: BUCKET,
    environment: {
      STORAGE_URL: `s3://${BUCKET}?endpoint=http://${LOOPBACK}:${port}&region=${REGION}`,
      AWS_ACCESS_KEY_ID: ACCESS_KEY_ID,
      AWS_SECRET_ACCESS_KEY: secret,
    },
    stop: () => app.close(),
  }
}

function credentialOf(accessKeyId: string): string {
  return `AWS4-HMAC-SHA256 Credential=${accessKeyId}/`
}

function refuseAsTold(app: App, intercept: NonNullable<S3Options['intercept']>): void {
  app.addHook('onRequest', async ({ method, url, headers }, reply) => {
    const refusal = intercept({ method, url, headers })
    if (refusal !== null) await reply.code(refusal.status).type(ERROR_BODY_TYPE).send(errorBody(refusal.code))
  })
}

/** Objects are private: a request is signed by our key, in a header or in a URL that has not expired. */
function refuseStrangers(app: App): void {
  app.addHook('onRequest', async (request, reply) => {
    const code = complaint(request.headers.authorization, new URL(request.url, 'http://localhost').searchParams)
    if (code !== null) await reply.code(403).type(ERROR_BODY_TYPE).send(errorBody(code))
  })
}

function complaint(authorization: string | undefined, query: URLSearchParams): string | null {
  if (authorization !== undefined) return authorization.startsWith(credentialOf(ACCESS_KEY_ID)) ? null : 'InvalidAccessKeyId'
  if (!query.has('X-Amz-Signature')) return 'AccessDenied'
  if (!(query.get('X-Amz-Credential') ?? '').startsWith(`${ACCESS_KEY_ID}/`)) return 'InvalidAccessKeyId'
  const signedAt = (query.get('X-Amz-Date') ?? '').replace(/^(....)(..)(..T..)(..)(..Z)$/, '$1-$2-$3:$4:$5')
  const expiresMs = Date.parse(signedAt) + Number(query.get('X-Amz-Expires')) * 1_000
  return Date.now() < expiresMs ? null : 'AccessDenied'
}

/** ListMultipartUploads, on one page. */
function listUploads(app: App): void {
  const uploads = new Map<string, { key: string; initiated: string }>()
  app.addHook('onSend', async (request, reply, payload) => {
    if (reply.statusCode >= 300) return
    const { pathname, searchParams } = new URL(request.url, 'http://localhost')
    const made = /<UploadId>(.+?)<\/UploadId>/.exec(typeof payload === 'string' ? payload : '')?.[1]
    const key = decodeURIComponent(pathname.slice(`/${BUCKET}/`.length))
    if (request.method === 'POST' && searchParams.has('uploads') && made !== undefined) {
      uploads.set(made, { key, initiated: new Date().toISOString() })
    } else if (request.method === 'POST' || request.method === 'DELETE') {
      uploads.delete(searchParams.get('uploadId') ?? '')
    }
  })
  app.addHook('preHandler', async (request, reply) => {
    const { searchParams } = new URL(request.url, 'http://localhost')
    if (request.method !== 'GET' || !searchParams.has('uploads')) return
    const listed = [...uploads].filter(([, { key }]) => key.startsWith(searchParams.get('prefix') ?? ''))
    const items = listed.map(
      ([id, { key, initiated }]) =>
        `<Upload><Key>${key}</Key><UploadId>${id}</UploadId><Initiated>${initiated}</Initiated></Upload>`,
    )
    await reply.type(ERROR_BODY_TYPE).send(`<ListMultipartUploadsResult>${items.join('')}</ListMultipartUploadsResult>`)
  })
}

function errorBody(code: string): string {
  return `<?xml version="1.0" encoding="UTF-8"?><Error><Code>${code}</Code><Message>${code}</Message></Error>`
}
