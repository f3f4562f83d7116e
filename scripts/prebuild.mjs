// npm run prebuild: prebuilds/<platform>-<arch>/ with the stripped addon, its BLAS helper, every
// shared library that a machine with nothing but Node lacks, and their licences. Then loads the
// result from an empty folder and checks that nothing of it came from this system.
import { execFileSync } from 'node:child_process'
import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  realpathSync,
  rmSync,
} from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const folder = join(root, 'prebuilds', `${process.platform}-${process.arch}`)

// Part of every system that runs Node; a second copy would never be used or would clash.
const system =
  /^(linux-vdso|ld-linux[^.]*|libc|libm|libdl|libpthread|librt|libgcc_s|libstdc\+\+)\.so/

function output(command, ...args) {
  return execFileSync(command, args, { encoding: 'utf8' })
}

function build() {
  const workspace = join(root, 'build/prebuild')
  mkdirSync(workspace, { recursive: true })
  rmSync(folder, { recursive: true, force: true })
  const cli = createRequire(import.meta.url).resolve('prebuildify/bin.js')
  const options = ['--napi', '--strip', '--tag-libc', '--name', 'losscape']
  const places = ['--cwd', workspace, '--out', root]
  const shim = ['--node-gyp', join(root, 'scripts/prebuild-node-gyp.mjs')]
  execFileSync(process.execPath, [cli, ...options, ...places, ...shim], {
    cwd: root,
    stdio: 'inherit',
  })
}

/** Direct and indirect shared libraries of `file` that are not part of every system. */
function dependencies(file) {
  return [...output('ldd', file).matchAll(/^\s*(\S+) => (\/\S+)/gm)]
    .map(([, name, path]) => ({ name, path }))
    .filter(({ name }) => !system.test(name))
}

/** Licences of the Debian package that a library came from. */
function copyLicence({ name, path }) {
  const found = output('dpkg-query', '-S', `*/${basename(realpathSync(path))}`)
  const packageName = found.split(':')[0]
  const licence = `/usr/share/doc/${packageName}/copyright`
  if (!existsSync(licence)) throw new Error(`no licence of ${name} at ${licence}`)
  mkdirSync(join(folder, 'licenses'), { recursive: true })
  copyFileSync(licence, join(folder, 'licenses', `${packageName}.txt`))
}

function bundle() {
  const working = join(root, 'build/prebuild/build/Release')
  const found = new Map()
  // OpenBLAS by its own path: by its name alone ldd shows the system's default build.
  const openblas = /^OPENBLAS_LIBRARY:.*=(.*)$/m.exec(
    output('grep', '^OPENBLAS_LIBRARY:', join(dirname(working), 'CMakeCache.txt')),
  )[1]
  found.set('libopenblas.so.0', { name: 'libopenblas.so.0', path: openblas })
  const files = readdirSync(folder).map((name) => join(folder, name))
  for (const file of [...files, openblas]) {
    for (const library of dependencies(file)) {
      if (!found.has(library.name)) found.set(library.name, library)
    }
  }
  for (const library of found.values()) {
    if (existsSync(join(folder, library.name))) continue
    // Found through our DT_RPATH only as long as the library has no run path of its own.
    if (/RUNPATH|RPATH/.test(output('readelf', '-d', library.path))) {
      throw new Error(`${library.path} has a run path of its own; it has to be removed first`)
    }
    copyFileSync(realpathSync(library.path), join(folder, library.name))
    copyLicence(library)
  }
}

/** Loads the addon from a copy in an empty folder; throws when a library came from elsewhere. */
function verify() {
  const empty = mkdtempSync(join(tmpdir(), 'losscape-prebuild-'))
  try {
    cpSync(folder, empty, { recursive: true })
    const script = `
      const addon = require(process.argv[1])
      const about = { ...addon.info(), blas: addon.blasInfo() }
      const maps = require('node:fs').readFileSync('/proc/self/maps', 'utf8')
      const libraries = [...new Set(maps.match(/\\/\\S+\\.(so[.\\d]*|node)$/gm))]
      console.log(JSON.stringify({ about, libraries }))`
    const addon = readdirSync(empty).find((name) => name.endsWith('.node'))
    const { about, libraries } = JSON.parse(
      execFileSync(process.execPath, ['-e', script, join(empty, addon)], {
        cwd: empty,
        encoding: 'utf8',
        env: { PATH: process.env.PATH },
      }),
    )
    const strange = libraries.filter(
      (path) => dirname(path) !== realpathSync(empty) && !system.test(basename(path)),
    )
    if (strange.length > 0) throw new Error(`not bundled: ${strange.join(', ')}`)
    console.log(JSON.stringify(about, null, 2))
  } finally {
    rmSync(empty, { recursive: true, force: true })
  }
}

build()
bundle()
verify()
console.log(output('du', '-ah', folder))
