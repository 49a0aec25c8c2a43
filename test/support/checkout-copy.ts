import { cp, readdir } from 'node:fs/promises'
import { join, resolve } from 'node:path'

/** What a checkout has beside the files that belong to it. */
const NOT_OURS = new Set(['node_modules', '.git', '.monogram', '.tap'])

export const CHECKOUT = resolve(import.meta.dirname, '../..')

/** Copies the checkout as it stands (uncommitted changes too, nothing installed or kept) to `directory`. */
export async function copyCheckout(directory: string): Promise<void> {
  for (const name of await readdir(CHECKOUT)) {
    if (!NOT_OURS.has(name)) await cp(join(CHECKOUT, name), join(directory, name), { recursive: true })
  }
}
