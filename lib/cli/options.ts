import { type Command, InvalidArgumentError, Option } from 'commander'
import type { Device } from '../device/device.js'

/** Options of commands that compute. */
export interface ComputeOptions {
  device: string
  threads?: number
  dtype?: 'f32' | 'f64'
}

/** Parses an integer of at least `least`. */
export function integer(least: number): (text: string) => number {
  return (text) => {
    const value = text.trim() === '' ? Number.NaN : Number(text)
    if (Number.isSafeInteger(value) && value >= least) return value
    throw new InvalidArgumentError(`Expected an integer of at least ${least}.`)
  }
}

/** Parses a number between `least` and `most`. */
export function number(least: number, most = Number.MAX_VALUE): (text: string) => number {
  return (text) => {
    const value = text.trim() === '' ? Number.NaN : Number(text)
    if (Number.isFinite(value) && value >= least && value <= most) return value
    const range = most === Number.MAX_VALUE ? `of at least ${least}` : `from ${least} to ${most}`
    throw new InvalidArgumentError(`Expected a number ${range}.`)
  }
}

/** Adds `--device`, `--threads` and `--dtype`. */
export function withComputeOptions(command: Command): Command {
  return command
    .option('--device <name>', "'cpu', 'cuda:0' or 'auto'", 'auto')
    .option('--threads <n>', 'threads (default: what the machine offers)', integer(1))
    .addOption(
      new Option('--dtype <type>', 'precision of the computation')
        .choices(['f32', 'f64'])
        .default('f32'),
    )
}

/** Adds `--dry-run`. */
export function withDryRun(command: Command): Command {
  return command.option('--dry-run', 'only tell n, memory and estimated time')
}

/** Opens the device that the options name; disposed by the caller. */
export async function openDevice(options: ComputeOptions): Promise<Device> {
  const { open } = await import('../device/device.js')
  return open({ device: options.device, threads: options.threads })
}

/** Quotes a word for a shell when it needs to be. */
export function shellWord(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`
}
