// Exits 0 when node_modules holds what package-lock.json asks for, 1 when it has to be installed. Plain JavaScript: it
// runs before our own Node is there. npm keeps a copy of the lock file in node_modules, written last, which says what
// an install really left; comparing the two notices a changed lock file, an install cut short and one without the
// development packages, and does not mind packages for other platforms.
import { readFileSync } from 'node:fs'

function packagesOf(file) {
  try {
    return JSON.parse(readFileSync(file, 'utf8')).packages
  } catch {
    return undefined
  }
}

const wanted = packagesOf('package-lock.json')
const present = packagesOf('node_modules/.package-lock.json')
const isComplete =
  present !== undefined &&
  Object.entries(wanted).every(([path, { version, optional }]) => path === '' || (present[path]?.version ?? (optional ? version : undefined)) === version)

process.exit(isComplete ? 0 : 1)
