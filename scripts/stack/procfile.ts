import { readFile } from 'node:fs/promises'

/** The line that a host runs once per deploy, before the processes. */
export const RELEASE = 'release'

/** The process types of a Procfile with their command lines, in its order; the release line apart. */
export interface Procfile {
  release: string | undefined
  processes: Map<string, string>
}

/** Reads a Procfile: `<type>: <command>` a line, comments and blank lines aside. Throws for any other line. */
export async function readProcfile(file: string): Promise<Procfile> {
  const processes = new Map<string, string>()
  for (const line of (await readFile(file, 'utf8')).split('\n')) {
    if (/^\s*(#|$)/.test(line)) continue
    const [, type, command] = /^([A-Za-z0-9_-]+):\s*(.+?)\s*$/.exec(line) ?? []
    if (type === undefined || command === undefined) throw new Error(`${file}: not a "<type>: <command>" line: ${line}`)
    processes.set(type, command)
  }
  const release = processes.get(RELEASE)
  processes.delete(RELEASE)
  return { release, processes }
}
