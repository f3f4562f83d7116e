import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { LosscapeError } from '../errors.js'
import type { NativeBinding } from '../native.js'

export interface LoaderOptions {
  /** Package root to search in. Default: this package. */
  root?: string
  /** Replaces `process.env`. */
  env?: Record<string, string | undefined>
  platform?: string
  arch?: string
}

const packageRoot = fileURLToPath(new URL('../../', import.meta.url))

let binding: NativeBinding | undefined

/** The native addon of this package; loaded by the first call. Throws as {@link loadAddon} does. */
export function native(): NativeBinding {
  if (!binding) {
    binding = loadAddon() as NativeBinding
    binding.setErrorClass(LosscapeError)
    // Node does not clean up before a process exits, but exit() destroys what kernels use.
    process.once('exit', () => binding?.shutdown())
  }
  return binding
}

/**
 * Where the addon is looked for, in order: a build in this tree, then the prebuilt binary for this
 * platform and C library. `LOSSCAPE_ADDON` (a path to a `.node` file) replaces them all.
 */
export function addonCandidates(options: LoaderOptions = {}): string[] {
  const { root = packageRoot, env = process.env } = options
  const { platform = process.platform, arch = process.arch } = options
  if (env.LOSSCAPE_ADDON) return [resolve(env.LOSSCAPE_ADDON)]
  const libc = platform !== 'linux' || !existsSync('/etc/alpine-release') ? 'glibc' : 'musl'
  return [
    join(root, 'build', 'Release', 'losscape.node'),
    join(root, 'prebuilds', `${platform}-${arch}`, `losscape.${libc}.node`),
  ]
}

/**
 * Loads the first candidate that exists and can be loaded.
 *
 * Throws `ERR_NATIVE` with every file tried and what was wrong with it, or the addon's own coded
 * error when it refuses its configuration (an unknown `LOSSCAPE_SIMD`: `ERR_ARGUMENT`).
 */
export function loadAddon(options: LoaderOptions = {}): unknown {
  const require = createRequire(import.meta.url)
  const tried: string[] = []
  let cause: unknown
  for (const file of addonCandidates(options)) {
    if (!existsSync(file)) {
      tried.push(`${file}: no such file`)
      continue
    }
    try {
      return withBriefWaits(() => require(file))
    } catch (error) {
      if ((error as { code?: string }).code === 'ERR_ARGUMENT') {
        throw new LosscapeError('ERR_ARGUMENT', (error as Error).message, { cause: error })
      }
      cause = error
      tried.push(`${file}: ${(error as Error).message}`)
    }
  }
  throw new LosscapeError('ERR_NATIVE', failure(tried, options), { cause })
}

/**
 * How often a thread of libgomp looks for the next parallel region before it sleeps, some
 * 200 µs. libgomp's own choice is a hundred times that, and on a machine whose cores other processes
 * want too, every region then waits for threads that are not running.
 */
const SPIN_COUNT = '3000'

/** libgomp reads its settings when it is loaded, here with the addon. The user's come first. */
function withBriefWaits<T>(load: () => T): T {
  const { env } = process
  if (env.GOMP_SPINCOUNT !== undefined || env.OMP_WAIT_POLICY !== undefined) return load()
  env.GOMP_SPINCOUNT = SPIN_COUNT
  try {
    return load()
  } finally {
    delete env.GOMP_SPINCOUNT
  }
}

function failure(tried: string[], options: LoaderOptions): string {
  const { env = process.env, platform = process.platform, arch = process.arch } = options
  const remedy = env.LOSSCAPE_ADDON
    ? 'LOSSCAPE_ADDON must name a losscape.node built for this Node and platform; unset it to use the package.'
    : 'In a clone, run `npm run build`; in an installed package, there may be no prebuilt binary for this platform: build it from a clone and set LOSSCAPE_ADDON to its losscape.node.'
  return [
    `The native addon could not be loaded on ${platform}-${arch}, Node ${process.versions.node}. Tried:`,
    ...tried.map((line) => `  ${line}`),
    remedy,
  ].join('\n')
}
