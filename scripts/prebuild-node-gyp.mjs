#!/usr/bin/env node
// Stands in for node-gyp under prebuildify: builds with cmake-js, in a folder of its own so that the
// working build stays as it is. prebuildify's arguments (a Node target, headers) do not matter for
// a Node-API addon.
import { spawnSync } from 'node:child_process'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const run = spawnSync(
  process.execPath,
  [
    createRequire(import.meta.url).resolve('cmake-js/bin/cmake-js'),
    'rebuild',
    ...['-d', root, '-O', join(root, 'build/prebuild/build'), '-l', 'error'],
    ...['--parallel', process.env.LOSSCAPE_BUILD_JOBS || '2'],
    ...['--CDLOSSCAPE_BUNDLED=ON', '--CDLOSSCAPE_TESTS=OFF'],
  ],
  { cwd: root, stdio: 'inherit' },
)
process.exit(run.status ?? 1)
