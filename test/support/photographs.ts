import { readFile } from 'node:fs/promises'

/** Real photographs, small and free to use: see photographs/LICENCES.md. */
export const PHOTOGRAPHS = ['cat', 'coffee', 'rocket'] as const

/** Reads one of the photographs, a JPEG of at most 640 pixels. */
export async function readPhotograph(name: (typeof PHOTOGRAPHS)[number]): Promise<Buffer> {
  return await readFile(new URL(`./photographs/${name}.jpg`, import.meta.url))
}
