import { sqlstateOf } from './database-errors.ts'

/** What Node says of a certificate that it cannot trace to an authority, or that is for another name. */
const DISTRUST = new Set([
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  'ERR_TLS_CERT_ALTNAME_INVALID',
])
const INVALID_AUTHORIZATION_SQLSTATE = '28000'

/** What would help against an error of connecting; null when there is nothing to say beyond the error. */
export function connectionAdvice(error: unknown): string | null {
  if (!(error instanceof Error)) return null
  if (DISTRUST.has(String((error as { code?: unknown }).code))) {
    return 'Set DATABASE_SSLMODE=no-verify to encrypt without checking certificates, or NODE_EXTRA_CA_CERTS to the file of their authority'
  }
  if (error.message === 'The server does not support SSL connections') return 'Set DATABASE_SSLMODE=disable, or turn on ssl there'
  if (sqlstateOf(error) === INVALID_AUTHORIZATION_SQLSTATE && /no encryption|SSL off/.test(error.message)) {
    return 'It takes encrypted connections only: set DATABASE_SSLMODE to no-verify (add-ons) or verify-full'
  }
  return null
}
