/** One memcached server, as the environment names it. */
export interface CacheServer {
  /** `host:port`: its name on the ring, so that a changed password moves no key. */
  readonly name: string
  readonly host: string
  readonly port: number
  /** SASL credentials; null: none. */
  readonly credentials: { readonly username: string; readonly password: string } | null
}

const PORT_DEFAULT = 11_211
const PORT_MAX = 65_535
const ENTRY = /^(?:memcached?:\/\/)?(?:([^:@\s]+):([^@\s]+)@)?(\[[0-9a-fA-F:.]+\]|[^:@/\s[\]]+)(?::(\d+))?\/?$/

/**
 * Reads entries of the form `[user:password@]host[:port]`, IPv6 addresses in brackets.
 * @param fallback credentials of the entries that carry none
 * @returns what is wrong with the list as text, or the servers
 */
export function parseServers(
  entries: readonly string[],
  fallback: CacheServer['credentials'],
): readonly CacheServer[] | string {
  const servers: CacheServer[] = []
  for (const entry of entries) {
    const [matched, username, password, bracketed = '', digits] = ENTRY.exec(entry) ?? []
    const port = digits === undefined ? PORT_DEFAULT : Number(digits)
    // The entry may carry a password, so it is told by its place.
    if (matched === undefined || port < 1 || port > PORT_MAX) {
      return `must list servers as [user:password@]host[:port]; number ${servers.length + 1} is none`
    }
    const host = bracketed.replace(/^\[|\]$/g, '')
    const name = `${bracketed}:${port}`.toLowerCase()
    if (servers.some((server) => server.name === name)) return `names ${name} twice`
    const own = username === undefined || password === undefined ? null : { username, password }
    servers.push({ name, host, port, credentials: own ?? fallback })
  }
  return servers
}
