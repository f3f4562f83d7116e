// Exit status 0 when node_modules holds what package-lock.json asks for (packages for other
// platforms aside), 1 when `npm ci` is due.
import { readFileSync } from 'node:fs'

function packages(file) {
  return JSON.parse(readFileSync(new URL(`../${file}`, import.meta.url), 'utf8')).packages
}

function current() {
  try {
    const installed = packages('node_modules/.package-lock.json')
    return Object.entries(packages('package-lock.json')).every(
      ([path, wanted]) =>
        path === '' ||
        installed[path]?.version === wanted.version ||
        (wanted.optional && !installed[path]),
    )
  } catch {
    return false
  }
}

process.exit(current() ? 0 : 1)
