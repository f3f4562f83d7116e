// Builds the addon, its BLAS helper and the native tests through cmake-js, and does nothing when
// neither a source nor an option changed since the last build.
//
//   node scripts/build-native.mjs [--force]
//   LOSSCAPE_WERROR=1       warnings are errors
//   LOSSCAPE_BUILD_JOBS=N   compilers at a time (default 2: a kernel file can take over 1 GB)
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const build = join(root, 'build')
const stampFile = join(build, 'native.stamp')
const products = ['losscape.node', 'liblosscape_blas.so', 'losscape_tests']
const options = [`--CDLOSSCAPE_WERROR=${process.env.LOSSCAPE_WERROR ? 'ON' : 'OFF'}`]
const jobs = process.env.LOSSCAPE_BUILD_JOBS || '2'

function sources() {
  const native = readdirSync(join(root, 'native'), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && /\.(cc|h)$/.test(entry.name))
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name))
  return [...native.sort(), join(root, 'CMakeLists.txt'), join(root, 'package.json')]
}

function stamp() {
  const hash = createHash('sha256').update(`${root}\n${process.arch}\n${options.join(' ')}\n`)
  for (const file of sources()) hash.update(`${file}\n`).update(readFileSync(file))
  return hash.digest('hex')
}

function cmakeJs(...args) {
  const cli = createRequire(import.meta.url).resolve('cmake-js/bin/cmake-js')
  // -l error: its own warnings about npm's configuration do not concern the build.
  const run = spawnSync(process.execPath, [cli, ...args, '-l', 'error', ...options], {
    cwd: root,
    stdio: 'inherit',
  })
  if (run.error) throw run.error
  if (run.status !== 0) process.exit(run.status ?? 1)
}

const wanted = stamp()
const current =
  products.every((name) => existsSync(join(build, 'Release', name))) &&
  existsSync(stampFile) &&
  readFileSync(stampFile, 'utf8') === wanted
if (current && !process.argv.includes('--force')) process.exit(0)

mkdirSync(build, { recursive: true })
rmSync(stampFile, { force: true })
// A configured folder that was moved or copied cannot be used again.
const cache = join(build, 'CMakeCache.txt')
if (
  existsSync(cache) &&
  !readFileSync(cache, 'utf8').includes(`losscape_SOURCE_DIR:STATIC=${root}\n`)
) {
  rmSync(cache)
  rmSync(join(build, 'CMakeFiles'), { recursive: true, force: true })
}
cmakeJs('configure')
cmakeJs('build', '--parallel', jobs)
writeFileSync(stampFile, wanted)
