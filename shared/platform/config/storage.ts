import { fileURLToPath } from 'node:url'
import { isBlobKey } from '../blob-store/blob-key.ts'
import type { Environment, EnvironmentReader } from './environment.ts'

/** Where blobs live. */
export type StorageConfig = DiskStorage | S3Storage

export interface DiskStorage {
  readonly kind: 'disk'
  readonly directory: string
}

export interface S3Storage {
  readonly kind: 's3'
  readonly bucket: string
  /** Before every key: empty, or with a slash at its end. */
  readonly prefix: string
  readonly region: string
  /** Null: Amazon's own. */
  readonly endpoint: string | null
  /** The bucket in the path of a request, not in its host name. */
  readonly pathStyle: boolean
  /** Null: of the machine's role, as the SDK finds it. */
  readonly credentials: S3Credentials | null
  /** The variables that said so, for messages that must name one. */
  readonly variables: S3Variables
}

export interface S3Credentials {
  readonly accessKeyId: string
  readonly secretAccessKey: string
  readonly sessionToken: string | null
}

export interface S3Variables {
  readonly bucket: string
  readonly region: string
  readonly endpoint: string
  readonly credentials: string
}

const BUCKET = /^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/
const URL_PARAMETERS = new Set(['region', 'endpoint', 'pathStyle'])
/** Most S3-compatible servers take any region or this one. */
const REGION_OF_ENDPOINTS = 'us-east-1'
/** Cloudcube does not say where its buckets are. */
const CLOUDCUBE_REGIONS: Readonly<Record<string, string>> = {
  'cloud-cube': 'us-east-1',
  'cloud-cube-eu': 'eu-west-1',
  'cloud-cube-jp': 'ap-northeast-1',
}
const NOWHERE: DiskStorage = { kind: 'disk', directory: '' }

/**
 * Where blobs live: STORAGE_URL if it is set, else the bucket of an add-on (Bucketeer, Cloudcube). Refuses what is
 * missing or bad by its variable, and a dyno's own disk, which no other dyno can see.
 */
export function readStorage(read: EnvironmentReader, env: Environment): StorageConfig {
  const url = read.optionalText('STORAGE_URL')
  if (url === null) return ofAddon(read, env)
  if (url.startsWith('file:///')) return disk(read, env, url)
  if (url.startsWith('s3://')) return s3(read, url)
  const scheme = url.split(':', 1)[0] ?? ''
  read.refuse('STORAGE_URL', `must be s3://bucket/prefix or a file:/// URL of a directory, not "${scheme}:…"`)
  return NOWHERE
}

function disk(read: EnvironmentReader, env: Environment, url: string): DiskStorage {
  if (env['DYNO'] !== undefined) {
    read.refuse('STORAGE_URL', 'must not be a directory: a dyno has no disk that other dynos can see, so name an S3 bucket')
  }
  try {
    return { kind: 'disk', directory: fileURLToPath(url) }
  } catch {
    read.refuse('STORAGE_URL', 'must be a file:/// URL of a directory')
    return NOWHERE
  }
}

function s3(read: EnvironmentReader, text: string): StorageConfig {
  const url = URL.canParse(text) ? new URL(text) : null
  if (url === null || !BUCKET.test(url.host)) {
    read.refuse('STORAGE_URL', 'must name a bucket, as in s3://bucket/prefix')
    return NOWHERE
  }
  if (url.username !== '' || url.password !== '') {
    read.refuse('STORAGE_URL', 'must not hold credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY')
  }
  for (const name of url.searchParams.keys()) {
    if (!URL_PARAMETERS.has(name)) {
      read.refuse('STORAGE_URL', `may have the parameters region, endpoint and pathStyle, not "${name}"`)
    }
  }
  const endpoint = endpointOf(read, url)
  const region = regionOf(read, url, endpoint.value !== null)
  return {
    kind: 's3',
    bucket: url.host,
    prefix: prefixOf(read, 'STORAGE_URL', url.pathname),
    region: region.value,
    endpoint: endpoint.value,
    pathStyle: pathStyleOf(read, url) ?? endpoint.value !== null,
    credentials: credentials(read, 'AWS'),
    variables: {
      bucket: 'STORAGE_URL',
      region: region.variable,
      endpoint: endpoint.variable,
      credentials: 'AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY',
    },
  }
}

function ofAddon(read: EnvironmentReader, env: Environment): StorageConfig {
  const bucket = read.optionalText('BUCKETEER_BUCKET_NAME')
  const cube = read.optionalText('CLOUDCUBE_URL')
  if (bucket !== null && cube !== null) {
    read.refuse('STORAGE_URL', 'must say which: there are both BUCKETEER_BUCKET_NAME and CLOUDCUBE_URL')
    return NOWHERE
  }
  if (bucket !== null) return bucketeer(read, bucket)
  if (cube !== null) return cloudcube(read, cube)
  const advice = env['DYNO'] === undefined
    ? 'set it to a directory that every process shares, such as file:///var/lib/monogram, or to s3://bucket/prefix'
    : 'a dyno has no disk that other dynos can see, so photos must live in an S3 bucket (s3://bucket/prefix); the add-ons Bucketeer and Cloudcube are found by themselves'
  read.refuse('STORAGE_URL', `is required and not set: ${advice}`)
  return NOWHERE
}

function bucketeer(read: EnvironmentReader, bucket: string): S3Storage {
  if (!BUCKET.test(bucket)) read.refuse('BUCKETEER_BUCKET_NAME', 'must be the name of a bucket')
  return ofAmazon(read, 'BUCKETEER_AWS', {
    bucket,
    prefix: '',
    region: read.text('BUCKETEER_AWS_REGION'),
    variables: { bucket: 'BUCKETEER_BUCKET_NAME', region: 'BUCKETEER_AWS_REGION' },
  })
}

/** CLOUDCUBE_URL is https://bucket.s3.amazonaws.com/cube: a folder in a bucket that many cubes share. */
function cloudcube(read: EnvironmentReader, text: string): StorageConfig {
  const url = URL.canParse(text) ? new URL(text) : null
  const bucket = /^([a-z0-9-]+)\.s3[a-z0-9.-]*\.amazonaws\.com$/.exec(url?.hostname ?? '')?.[1]
  if (url === null || bucket === undefined || url.pathname === '/') {
    read.refuse('CLOUDCUBE_URL', 'must be like https://cloud-cube.s3.amazonaws.com/cube')
    return NOWHERE
  }
  const known = read.optionalText('AWS_REGION') ?? CLOUDCUBE_REGIONS[bucket]
  if (known === undefined) read.refuse('AWS_REGION', `is required and not set: the region of the bucket "${bucket}"`)
  return ofAmazon(read, 'CLOUDCUBE', {
    bucket,
    prefix: prefixOf(read, 'CLOUDCUBE_URL', url.pathname),
    region: known ?? '',
    variables: { bucket: 'CLOUDCUBE_URL', region: 'AWS_REGION' },
  })
}

type AmazonPlace = Pick<S3Storage, 'bucket' | 'prefix' | 'region'> & { variables: Pick<S3Variables, 'bucket' | 'region'> }

function ofAmazon(read: EnvironmentReader, owner: string, place: AmazonPlace): S3Storage {
  const names = { id: `${owner}_ACCESS_KEY_ID`, secret: `${owner}_SECRET_ACCESS_KEY` }
  return {
    kind: 's3',
    ...place,
    endpoint: null,
    pathStyle: false,
    credentials: { accessKeyId: read.text(names.id), secretAccessKey: read.text(names.secret), sessionToken: null },
    variables: { ...place.variables, endpoint: place.variables.bucket, credentials: `${names.id} and ${names.secret}` },
  }
}

/** Both or none; a session token only beside them. */
function credentials(read: EnvironmentReader, owner: string): S3Credentials | null {
  const names = { id: `${owner}_ACCESS_KEY_ID`, secret: `${owner}_SECRET_ACCESS_KEY` }
  const [accessKeyId, secretAccessKey] = [read.optionalText(names.id), read.optionalText(names.secret)]
  if (accessKeyId !== null && secretAccessKey === null) read.refuse(names.secret, `is required with ${names.id}`)
  if (accessKeyId === null && secretAccessKey !== null) read.refuse(names.id, `is required with ${names.secret}`)
  if (accessKeyId === null || secretAccessKey === null) return null
  return { accessKeyId, secretAccessKey, sessionToken: read.optionalText(`${owner}_SESSION_TOKEN`) }
}

interface Found<T> {
  readonly value: T
  readonly variable: string
}

function firstSet(read: EnvironmentReader, url: URL, parameter: string, names: readonly string[]): Found<string> | null {
  const own = url.searchParams.get(parameter)
  if (own !== null && own !== '') return { value: own, variable: 'STORAGE_URL' }
  for (const variable of names) {
    const value = read.optionalText(variable)
    if (value !== null) return { value, variable }
  }
  return null
}

function endpointOf(read: EnvironmentReader, url: URL): Found<string | null> {
  const found = firstSet(read, url, 'endpoint', ['S3_ENDPOINT', 'AWS_ENDPOINT_URL_S3', 'AWS_ENDPOINT_URL'])
  if (found === null) return { value: null, variable: 'STORAGE_URL' }
  if (!/^https?:\/\//.test(found.value) || !URL.canParse(found.value)) {
    read.refuse(found.variable, `must give an http:// or https:// endpoint, not "${found.value}"`)
  }
  return found
}

function regionOf(read: EnvironmentReader, url: URL, hasEndpoint: boolean): Found<string> {
  const found = firstSet(read, url, 'region', ['AWS_REGION', 'AWS_DEFAULT_REGION'])
  if (found !== null) {
    if (!/^[a-z0-9-]+$/.test(found.value)) read.refuse(found.variable, `must give a region such as eu-central-1, not "${found.value}"`)
    return found
  }
  if (!hasEndpoint) read.refuse('AWS_REGION', 'is required and not set: the region of the bucket, such as eu-central-1')
  return { value: REGION_OF_ENDPOINTS, variable: 'AWS_REGION' }
}

function pathStyleOf(read: EnvironmentReader, url: URL): boolean | null {
  const text = url.searchParams.get('pathStyle')
  if (text === null) return null
  if (text !== 'true' && text !== 'false') read.refuse('STORAGE_URL', `has pathStyle=true or pathStyle=false, not "${text}"`)
  return text === 'true'
}

function prefixOf(read: EnvironmentReader, variable: string, pathname: string): string {
  const prefix = pathname.replace(/^\/+|\/+$/g, '')
  if (prefix === '') return ''
  if (!isBlobKey(prefix)) read.refuse(variable, 'must have a prefix of letters, digits, ".", "_" and "-" in parts joined by "/"')
  return `${prefix}/`
}
