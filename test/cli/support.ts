import { spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { afterAll } from 'vitest'

export const root = fileURLToPath(new URL('../../', import.meta.url))

const main = join(root, 'dist', 'cli', 'main.js')
const stamp = join(root, 'dist', '.tsbuildinfo')

let checked = false

/** These tests run what users run, the built package: it must not be older than the sources. */
function requireBuild(): void {
  if (checked) return
  const sources = readdirSync(join(root, 'lib'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => statSync(join(root, 'lib', name)).mtimeMs)
  if (existsSync(stamp) && statSync(stamp).mtimeMs >= Math.max(...sources)) checked = true
  else throw new Error('dist/ is missing or older than lib/: run npm run build:ts (npm test does).')
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
  requireBuild()
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
