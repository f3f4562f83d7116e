import { execFile } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

const REGISTER = new URL('./register.mjs', import.meta.url).href

/** Resident bytes of this process now, and their peak since {@link resetPeak}. */
export function residentBytes(): { now: number; peak: number } {
  const status = readFileSync('/proc/self/status', 'utf8')
  const field = (name: string) => {
    const match = new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status)
    if (match === null) throw new Error(`/proc/self/status has no ${name}`)
    return Number(match[1]) * 1024
  }
  return { now: field('VmRSS'), peak: field('VmHWM') }
}

/** Makes the kernel forget the peak that loading left behind; where it refuses, that peak stays. */
export function resetPeak(): void {
  try {
    writeFileSync('/proc/self/clear_refs', '5')
  } catch {
    // Not Linux, or not allowed: the peak is then an upper bound.
  }
}

/** What one `run` adds to the resident set of this process: its peak minus what was there. */
export async function peakDuring(run: () => Promise<unknown>): Promise<number> {
  globalThis.gc?.()
  const baseline = residentBytes().now
  resetPeak()
  await run()
  return residentBytes().peak - baseline
}

/** Runs `bench/children/NAME.ts` in a fresh Node and parses the JSON that it prints. */
export async function runChild<T>(name: string, args: string[]): Promise<T> {
  const script = fileURLToPath(new URL(`./children/${name}.ts`, import.meta.url))
  const { stdout } = await promisify(execFile)(process.execPath, [
    '--expose-gc',
    '--import',
    REGISTER,
    script,
    ...args,
  ])
  return JSON.parse(stdout) as T
}
