import { spawn, spawnSync } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmdirSync,
  rmSync,
  statSync,
  utimesSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { afterAll } from 'vitest'

export const root = fileURLToPath(new URL('../../', import.meta.url))

const main = join(root, 'dist', 'cli', 'main.js')
const stamp = join(root, 'dist', '.tsbuildinfo')

let current = false

/** These tests run what users run, the built package; builds it when it is older than the sources. */
async function ensureBuilt(): Promise<void> {
  if (current) return
  const lock = join(root, 'build', 'tests.lock')
  mkdirSync(join(root, 'build'), { recursive: true })
  // Two test files must not build at once, nor run what the other one is writing.
  for (let waited = 0; ; waited += 50) {
    try {
      mkdirSync(lock)
      break
    } catch {
      if (waited > 60_000) throw new Error(`${lock} is held by a run that died: remove it.`)
      await setTimeout(50)
    }
  }
  try {
    if (isStale()) {
      const tsc = join(root, 'node_modules', 'typescript', 'bin', 'tsc')
      spawnSync(process.execPath, [tsc, '-p', 'tsconfig.build.json'], { cwd: root })
      // tsc leaves its stamp alone when only dates have changed.
      utimesSync(stamp, new Date(), new Date())
    }
    current = true
  } finally {
    rmdirSync(lock)
  }
}

function isStale(): boolean {
  if (!existsSync(stamp)) return true
  const built = statSync(stamp).mtimeMs
  return readdirSync(join(root, 'lib'), { recursive: true, encoding: 'utf8' }).some(
    (name) => name.endsWith('.ts') && statSync(join(root, 'lib', name)).mtimeMs > built,
  )
}

export interface Finished {
  status: number | null
  stdout: string
  stderr: string
}

export interface RunOptions {
  env?: Record<string, string>
  cwd?: string
  /** Sends the signal as soon as the file exists. */
  kill?: { signal: NodeJS.Signals; when: string }
}

/** Runs a Node script in a child process. */
export async function node(args: readonly string[], options: RunOptions = {}): Promise<Finished> {
  await ensureBuilt()
  const { LOSSCAPE_DEBUG: _, ...inherited } = process.env
  const child = spawn(process.execPath, args, {
    cwd: options.cwd ?? root,
    // Other test files run beside this one: threads that spin while they wait would slow them down.
    env: { ...inherited, OMP_WAIT_POLICY: 'passive', ...options.env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let stdout = ''
  let stderr = ''
  child.stdout.on('data', (chunk) => {
    stdout += chunk
  })
  child.stderr.on('data', (chunk) => {
    stderr += chunk
  })
  const closed = new Promise<number | null>((resolve, reject) => {
    child.on('error', reject)
    child.on('close', resolve)
  })
  if (options.kill) {
    while (child.exitCode === null && !existsSync(options.kill.when)) await setTimeout(2)
    child.kill(options.kill.signal)
  }
  return { status: await closed, stdout, stderr }
}

/** Runs `losscape ARGS`. */
export function losscape(args: readonly string[], options?: RunOptions): Promise<Finished> {
  return node([main, ...args], options)
}

/** Runs `losscape ARGS --json`, which must succeed, and parses what it prints. */
export async function losscapeJson<T = Record<string, unknown>>(args: string[]): Promise<T> {
  const { status, stdout, stderr } = await losscape([...args, '--json'])
  if (status !== 0) throw new Error(`losscape ${args.join(' ')}: status ${status}\n${stderr}`)
  return JSON.parse(stdout) as T
}

/** A folder that lives as long as the test file. */
export function temporaryFolder(): string {
  const path = mkdtempSync(join(tmpdir(), 'losscape-cli-'))
  afterAll(() => rmSync(path, { recursive: true, force: true }))
  return path
}
