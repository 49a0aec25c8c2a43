import type { EnvironmentReader } from './environment.ts'

/** What `sslmode` may be, none of which means something else to another version of pg. */
const MODES = ['disable', 'no-verify', 'verify-full'] as const

export interface Tls {
  /** The URL as it is to be used, refused by its variable's name when it does not say for sure what it wants. */
  applyTo(name: string, url: string): string
}

/**
 * Encryption of the connections to PostgreSQL. DATABASE_SSLMODE goes before what URLs say, as hosts that rotate URLs do
 * not let one edit them; without either, connections are not encrypted.
 *
 * `require`, `prefer` and `verify-ca` mean `verify-full` to pg 8 and something weaker to libpq and to pg 9: who writes one
 * is asked which of the two it shall be.
 */
export function readTls(read: EnvironmentReader): Tls {
  const chosen = read.optionalText('DATABASE_SSLMODE')
  if (chosen !== null && !isMode(chosen)) read.refuse('DATABASE_SSLMODE', `must be one of ${MODES.join(', ')}, not "${chosen}"`)
  return {
    applyTo(name, url) {
      const [base = '', query = ''] = url.split('?', 2)
      const parameters = new URLSearchParams(query)
      const own = ['sslmode', 'ssl'].find((parameter) => parameters.has(parameter))
      if (chosen === null && own === undefined) return url
      const mode = chosen ?? parameters.get('sslmode') ?? ''
      if (chosen === null && own !== undefined && !isMode(mode)) read.refuse(name, ambiguity(`${own}=${parameters.get(own) ?? ''}`))
      parameters.set('sslmode', mode)
      // Either would make pg read the mode in another way.
      for (const other of ['ssl', 'uselibpqcompat']) parameters.delete(other)
      return `${base}?${parameters.toString()}`
    },
  }
}

function ambiguity(parameter: string): string {
  return (
    `has ${parameter}, which does not say whether the server's certificate is checked: set DATABASE_SSLMODE to verify-full, ` +
    'so that it is (NODE_EXTRA_CA_CERTS names the file of an authority that is not publicly known), or to no-verify, so that the ' +
    'connection is encrypted only, as with the self-signed certificates of most add-ons'
  )
}

function isMode(text: string): boolean {
  return (MODES as readonly string[]).includes(text)
}
