import { existsSync } from 'node:fs'
import { availableParallelism, freemem, totalmem } from 'node:os'
import { Command } from 'commander'
import { addonCandidates, native } from '../device/loader.js'
import { EXIT } from './exit.js'
import { type ComputeOptions, openDevice, withComputeOptions } from './options.js'
import { packageVersion } from './program.js'
import { type OutputOptions, runSession, type Session, withOutputOptions } from './session.js'

/** `losscape doctor` */
export function command(): Command {
  return withOutputOptions(withComputeOptions(new Command()))
    .description(
      'Tells what is installed and in use, and compares a small program with the float64 reference.',
    )
    .addHelpText(
      'after',
      `
Examples:
  losscape doctor
  losscape doctor --json
  LOSSCAPE_SIMD=sse4 losscape doctor      with a lower instruction set`,
    )
    .action((options: OutputOptions & ComputeOptions) =>
      runSession(options, (session) => doctor(options, session)),
    )
}

async function doctor(options: ComputeOptions, session: Session): Promise<number> {
  const head = {
    losscape: packageVersion(),
    node: process.versions.node,
    platform: `${process.platform}-${process.arch}`,
  }
  const headText = [
    ['losscape', head.losscape],
    ['Node', `${head.node}, ${head.platform}`],
  ]
  let info: ReturnType<ReturnType<typeof native>['info']>
  try {
    info = native().info()
  } catch (error) {
    session.note(rows(headText))
    throw error
  }
  const { selfTest } = await import('./self-test.js')
  const device = await openDevice(options)
  try {
    const test = await selfTest(device)
    const blas = openBlas()
    const result = {
      ...head,
      addon: { version: info.version, path: addonCandidates().find(existsSync), libc: info.libc },
      simd: { used: info.simd, available: info.simdTargets },
      threads: { default: info.threads, processors: availableParallelism() },
      onednn: info.onednn,
      openblas: blas,
      memory: { total: totalmem(), free: freemem() },
      cuda: { available: false, reason: cudaReason() },
      selfTest: test,
      ok: test.ok && !('error' in blas),
    }
    session.result(result, () =>
      rows([
        ...headText,
        ['addon', `${info.version}, ${info.libc}, ${result.addon.path}`],
        ['SIMD', `${info.simd} in use; available: ${info.simdTargets.join(', ')}`],
        ['threads', `${info.threads} by default; ${result.threads.processors} processors`],
        ['oneDNN', info.onednn],
        ['OpenBLAS', 'error' in blas ? `missing: ${blas.error}` : `${blas.version}, ${blas.core}`],
        ['memory', `${gigabytes(result.memory.free)} free of ${gigabytes(result.memory.total)}`],
        ['CUDA', `not available: ${result.cuda.reason}`],
        ['self-test', selfTestText(test)],
      ]),
    )
    return result.ok ? EXIT.ok : EXIT.failure
  } finally {
    device.dispose()
  }
}

function openBlas(): { version: string; core: string } | { error: string } {
  try {
    return native().blasInfo()
  } catch (error) {
    return { error: (error as Error).message }
  }
}

function cudaReason(): string {
  return existsSync('/proc/driver/nvidia/version')
    ? 'an NVIDIA driver is present, but this version of losscape has no CUDA library'
    : 'no NVIDIA driver, and this version of losscape has no CUDA library'
}

function selfTestText(test: { f32: number; f64: number; ok: boolean }): string {
  const errors = `error ${test.f32.toExponential(1)} in f32, ${test.f64.toExponential(1)} in f64`
  return test.ok
    ? `passed (${errors})`
    : `FAILED (${errors}): please report this with the lines above`
}

function gigabytes(bytes: number): string {
  return `${(bytes / 2 ** 30).toFixed(1)} GiB`
}

function rows(pairs: readonly (readonly string[])[]): string {
  return pairs.map(([name, value]) => `${name.padEnd(10)} ${value}`).join('\n')
}
