import { native } from '../lib/device/loader.js'
import type { MachineRates } from './types.js'

/** Rates measured by the addon on `threads` threads; `quick` takes a smaller product. */
export function machineRates(
  { threads, quick }: { threads: number; quick: boolean },
  binding: Binding = native(),
): MachineRates {
  let gemm: Promise<number | null> | undefined
  return {
    copyBandwidth: (bytes) => positive(binding.copyBandwidth(Math.round(bytes), threads)),
    gemmRate() {
      gemm ??= positive(binding.gemmRate(quick ? 512 : 2048, 'f32', threads))
      return gemm
    },
  }
}

type Binding = Pick<ReturnType<typeof native>, 'copyBandwidth' | 'gemmRate'>

async function positive(rate: Promise<number>): Promise<number | null> {
  const value = await rate
  return value > 0 && Number.isFinite(value) ? value : null
}

/** What the addon would use by itself: affinity and cgroup quota. */
export function defaultThreads(): number {
  return native().info().threads
}

/** Versions for the machine's description. */
export function libraryVersions(): Record<string, string> {
  const { version, simd, onednn, libc } = native().info()
  return { losscape: version, simd, onednn, libc }
}
