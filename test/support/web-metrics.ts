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
