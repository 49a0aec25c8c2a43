import { SEED_PASSWORD, usernameAt } from '../seed/names.ts'

/** What fills a demonstration: enough people and pictures for a feed that scrolls, in well under a minute. */
export const SEED_COMMAND = 'node scripts/seed.ts --accounts 30 --photos 60 --seed 1'

/**
 * Signs in as the best-known of the seeded people and gives lines to paste into a shell, which look at its feed and
 * fetch a picture of it. Throws when the API at `url` does not let it in.
 */
export async function demoLines(url: string): Promise<string[]> {
  const username = usernameAt(0)
  const answer = await fetch(`${url}/v1/sessions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ username, password: SEED_PASSWORD }),
  })
  if (!answer.ok) throw new Error(`Signing in as ${username} was answered with ${answer.status}: ${await answer.text()}`)
  const { token } = (await answer.json()) as { token: string }
  return [
    `You are ${username} (password ${SEED_PASSWORD}). The newest picture of your feed:`,
    `  ${await newestPicture(url, token)}`,
    'Try:',
    `  TOKEN=${token}`,
    `  curl -s -H "Authorization: Bearer $TOKEN" '${url}/v1/feed?limit=3'`,
    `  curl -s ${url}/v1/accounts/${username}`,
    `  curl -s -H "Authorization: Bearer $TOKEN" -F caption=Hello -F file=@picture.jpg ${url}/v1/photos`,
  ]
}

async function newestPicture(url: string, token: string): Promise<string> {
  const answer = await fetch(`${url}/v1/feed?limit=1`, { headers: { authorization: `Bearer ${token}` } })
  const { items } = (await answer.json()) as { items: { renditions: { url: string }[] }[] }
  const largest = items[0]?.renditions.at(-1)
  return largest === undefined ? '(no picture yet)' : new URL(largest.url, url).href
}
