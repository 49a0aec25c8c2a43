import t from 'tap'
import { readEnvironment, type Environment } from '#platform/config/environment.ts'
import { readStorage, type StorageConfig } from '#platform/config/storage.ts'

function read(env: Environment): StorageConfig {
  const reader = readEnvironment(env)
  const storage = readStorage(reader, env)
  reader.finish()
  return storage
}

const KEYS = { AWS_ACCESS_KEY_ID: 'id', AWS_SECRET_ACCESS_KEY: 'secret' }
const AMAZON = { ...KEYS, AWS_REGION: 'eu-central-1' }

t.test('a directory', async (t) => {
  t.same(read({ STORAGE_URL: 'file:///var/lib/monogram' }), { kind: 'disk', directory: '/var/lib/monogram' })
})

t.test('a bucket at Amazon', async (t) => {
  t.same(read({ STORAGE_URL: 's3://photos.example', ...AMAZON }), {
    kind: 's3',
    bucket: 'photos.example',
    prefix: '',
    region: 'eu-central-1',
    endpoint: null,
    pathStyle: false,
    credentials: { accessKeyId: 'id', secretAccessKey: 'secret', sessionToken: null },
    variables: {
      bucket: 'STORAGE_URL',
      region: 'AWS_REGION',
      endpoint: 'STORAGE_URL',
      credentials: 'AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY',
    },
  })
  t.match(read({ STORAGE_URL: 's3://photos/a/b/?region=us-west-2', ...AMAZON, AWS_SESSION_TOKEN: 'token' }), {
    prefix: 'a/b/',
    region: 'us-west-2',
    credentials: { sessionToken: 'token' },
    variables: { region: 'STORAGE_URL' },
  })
  t.match(read({ STORAGE_URL: 's3://photos', AWS_DEFAULT_REGION: 'eu-west-1' }), { region: 'eu-west-1', credentials: null })
})

t.test('a bucket elsewhere is in the path, of any region, unless told otherwise', async (t) => {
  const endpoint = 'https://storage.example:9000'
  const elsewhere = { kind: 's3', endpoint, pathStyle: true, region: 'us-east-1' }
  t.match(read({ STORAGE_URL: `s3://photos?endpoint=${endpoint}`, ...KEYS }), elsewhere)
  for (const name of ['S3_ENDPOINT', 'AWS_ENDPOINT_URL_S3', 'AWS_ENDPOINT_URL']) {
    t.match(read({ STORAGE_URL: 's3://photos', ...KEYS, [name]: endpoint }), { ...elsewhere, variables: { endpoint: name } })
  }
  t.match(read({ STORAGE_URL: `s3://photos?endpoint=${endpoint}&pathStyle=false&region=auto`, ...KEYS }), {
    pathStyle: false,
    region: 'auto',
  })
})

t.test('add-ons are found by their usual names, also on a dyno', async (t) => {
  const bucketeer = {
    BUCKETEER_BUCKET_NAME: 'bucketeer-1',
    BUCKETEER_AWS_REGION: 'us-east-1',
    BUCKETEER_AWS_ACCESS_KEY_ID: 'id',
    BUCKETEER_AWS_SECRET_ACCESS_KEY: 'secret',
  }
  t.match(read({ DYNO: 'web.1', ...bucketeer }), {
    kind: 's3',
    bucket: 'bucketeer-1',
    prefix: '',
    region: 'us-east-1',
    endpoint: null,
    credentials: { accessKeyId: 'id', secretAccessKey: 'secret' },
    variables: { bucket: 'BUCKETEER_BUCKET_NAME', credentials: 'BUCKETEER_AWS_ACCESS_KEY_ID and BUCKETEER_AWS_SECRET_ACCESS_KEY' },
  })
  const cloudcube = {
    CLOUDCUBE_URL: 'https://cloud-cube-eu.s3.amazonaws.com/abc123',
    CLOUDCUBE_ACCESS_KEY_ID: 'id',
    CLOUDCUBE_SECRET_ACCESS_KEY: 'secret',
  }
  t.match(read({ DYNO: 'web.1', ...cloudcube }), { bucket: 'cloud-cube-eu', prefix: 'abc123/', region: 'eu-west-1' })
  t.match(read({ ...cloudcube, AWS_REGION: 'eu-west-3' }), { region: 'eu-west-3' })
  t.match(read({ ...bucketeer, ...AMAZON, STORAGE_URL: 's3://mine' }), { bucket: 'mine' }, 'what people set goes first')

  t.throws(() => read({ ...bucketeer, ...cloudcube }), { message: /STORAGE_URL must say which/ })
  t.throws(() => read({ BUCKETEER_BUCKET_NAME: 'bucketeer-1' }), {
    message: /BUCKETEER_AWS_REGION is required[^]*BUCKETEER_AWS_ACCESS_KEY_ID is required[^]*BUCKETEER_AWS_SECRET_ACCESS_KEY is required/,
  })
  t.throws(() => read({ ...cloudcube, CLOUDCUBE_URL: 'https://cloud-cube-xy.s3.amazonaws.com/a' }), { message: /AWS_REGION is required/ })
  t.throws(() => read({ ...cloudcube, CLOUDCUBE_URL: 'https://example.org/a' }), { message: /CLOUDCUBE_URL must be like/ })
})

t.test('a dyno without shared storage is refused, and told why', async (t) => {
  t.throws(() => read({ DYNO: 'web.1' }), { message: /STORAGE_URL is required and not set: a dyno has no disk/ })
  t.throws(() => read({ DYNO: 'web.1', STORAGE_URL: 'file:///app/blobs' }), { message: /STORAGE_URL must not be a directory: a dyno has no disk/ })
  t.throws(() => read({}), { message: /STORAGE_URL is required and not set: set it to a directory/ })
})

t.test('each bad value names its variable', async (t) => {
  for (const [env, message] of [
    [{ STORAGE_URL: 'ftp://a/b' }, /STORAGE_URL must be s3:.* not "ftp:/],
    [{ STORAGE_URL: 'file:///a%2Fb' }, /STORAGE_URL must be a file:\/\/\/ URL/],
    [{ STORAGE_URL: 's3://' }, /STORAGE_URL must name a bucket/],
    [{ STORAGE_URL: 's3://UPPER' }, /STORAGE_URL must name a bucket/],
    [{ STORAGE_URL: 's3://id:secret@photos' }, /STORAGE_URL must not hold credentials/],
    [{ STORAGE_URL: 's3://photos/a b' }, /STORAGE_URL must have a prefix/],
    [{ STORAGE_URL: 's3://photos/a//b' }, /STORAGE_URL must have a prefix/],
    [{ STORAGE_URL: 's3://photos?regoin=x' }, /STORAGE_URL may have the parameters .* not "regoin"/],
    [{ STORAGE_URL: 's3://photos?pathStyle=yes' }, /STORAGE_URL has pathStyle=true/],
    [{ STORAGE_URL: 's3://photos?endpoint=minio:9000' }, /STORAGE_URL must give an http/],
    [{ STORAGE_URL: 's3://photos', S3_ENDPOINT: 'minio' }, /S3_ENDPOINT must give an http/],
    [{ STORAGE_URL: 's3://photos', AWS_REGION: 'Frankfurt' }, /AWS_REGION must give a region/],
    [{ STORAGE_URL: 's3://photos', AWS_REGION: '' }, /AWS_REGION is required/],
    [{ STORAGE_URL: 's3://photos', AWS_SECRET_ACCESS_KEY: '' }, /AWS_SECRET_ACCESS_KEY is required with AWS_ACCESS_KEY_ID/],
    [{ STORAGE_URL: 's3://photos', AWS_ACCESS_KEY_ID: '' }, /AWS_ACCESS_KEY_ID is required with AWS_SECRET_ACCESS_KEY/],
  ] as const) {
    t.throws(() => read({ ...AMAZON, ...env }), { name: 'ConfigError', message }, JSON.stringify(env))
  }
})

t.test('no message shows a secret', async (t) => {
  try {
    read({ STORAGE_URL: 's3://id:hidden@UPPER', AWS_SECRET_ACCESS_KEY: 'hidden' })
    t.fail('it is refused')
  } catch (error) {
    t.notMatch(String(error), 'hidden')
  }
})
