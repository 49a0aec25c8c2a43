/** Adds up a counter of web processes, over all series whose labels are as wanted; they have METRICS_TOKEN set to `token`. */
export async function sumMetric(
  urls: readonly string[],
  token: string,
  name: string,
  labels: Readonly<Record<string, string>> = {},
): Promise<number> {
  const pages = await Promise.all(
    urls.map(async (url) => (await fetch(`${url}/metrics`, { headers: { authorization: `Bearer ${token}` } })).text()),
  )
  const wanted = Object.entries(labels).map(([label, value]) => `${label}="${value}"`)
  return pages
    .flatMap((page) => page.split('\n'))
    .filter((line) => line.startsWith(`${name}{`) && wanted.every((part) => line.includes(part)))
    .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' ') + 1)), 0)
}

/**
 * Tells whether a cache server has failed some web process since it was last asked. A delete that a server does not confirm in
 * time, as on a machine that is too busy, may leave an old value to other processes for a moment (ADR 17): a test of
 * something else does not count what they show then.
 */
export function cacheWatch(urls: readonly string[], token: string): { hasFailed(): Promise<boolean> } {
  let known = 0
  return {
    async hasFailed() {
      const before = known
      known = await sumMetric(urls, token, 'monogram_cache_failures_total')
      return known > before
    },
  }
}
