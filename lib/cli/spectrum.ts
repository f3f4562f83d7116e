import { Command, Option } from 'commander'
import { EXIT, UsageError } from './exit.js'
import {
  type ComputeOptions,
  integer,
  number,
  openDevice,
  shellWord,
  withComputeOptions,
  withDryRun,
} from './options.js'
import { type OutputOptions, runSession, type Session, withOutputOptions } from './session.js'
import { SPECTRUM_REORTHOGONALIZE } from './spectrum-compute.js'
import { estimateSpectrum } from './spectrum-estimate.js'
import { contract, spectrumTable } from './spectrum-output.js'
import { openSpectrum, runSpectrum, type SpectrumRequest } from './spectrum-run.js'

interface SpectrumFlags extends OutputOptions, ComputeOptions, SpectrumRequest {
  dryRun?: boolean
}

/** `losscape spectrum RUN` */
export function command(): Command {
  const base = new Command()
    .description(
      'Extreme eigenvalues (Lanczos), spectral density and trace (stochastic Lanczos quadrature) ' +
        "of the Hessian of a run's training loss. Writes RUN/spectrum.json. What an interrupt left " +
        'unfinished is taken up by the same command.',
    )
    .argument('<run>', 'run folder')
    .option('--top <n>', 'eigenvalues from each end', integer(1), 10)
    .option('--probes <n>', 'random probes of the density', integer(1), 10)
    .option('--steps <n>', 'Lanczos steps per probe', integer(2), 80)
    .option('--samples <n>', 'the first N of the training split (default: all)', integer(1))
    .addOption(
      new Option('--kind <kind>', 'matrix')
        .choices(['hessian', 'gauss-newton', 'remainder'])
        .default('hessian'),
    )
    .option('--params <glob>', "the block of these parameters, 'layers.0.*,!*.bias' (default: all)")
    .option('--data <spec>', "another data set, in the run's normalization")
    .option('--batch <n>', 'samples per chunk; the product is exact for any', integer(1))
    .option('--seed <n>', 'of the probes', integer(0), 0)
    .addOption(
      new Option(
        '--reorthogonalize <how>',
        'what keeps Lanczos vectors orthogonal (default: full for the ends, partial for the probes)',
      )
        .choices(Object.keys(SPECTRUM_REORTHOGONALIZE))
        .conflicts('exact'),
    )
    .addOption(
      new Option(
        '--memory <mib>',
        'of the Lanczos vectors, in MiB: the ends restart when they need more, probes keep three ' +
          'vectors (default: all vectors)',
      )
        .argParser(mebibytes)
        .conflicts('exact'),
    )
    .option('--exact', 'all eigenvalues by the dense path, for n up to 20,000')
  return withOutputOptions(withDryRun(withComputeOptions(base)))
    .addHelpText(
      'after',
      `
Examples:
  losscape spectrum runs/a --samples 2000
  losscape spectrum runs/a --top 10 --probes 10 --steps 80 --samples 2000 --json > spectrum.json
  losscape spectrum runs/a --kind gauss-newton --params 'layers.0.*'
  losscape spectrum runs/small --exact --dtype f64
  losscape spectrum runs/large --top 5 --memory 512
  losscape spectrum runs/a --top 20 --reorthogonalize partial
  losscape spectrum runs/a --dry-run`,
    )
    .action((folder: string, flags: SpectrumFlags) =>
      runSession(flags, (session) => spectrum(folder, flags, session)),
    )
}

async function spectrum(folder: string, flags: SpectrumFlags, session: Session): Promise<number> {
  const device = await openDevice(flags)
  try {
    const opened = await openSpectrum(device, folder, flags, session.signal)
    try {
      const n = opened.operator.size
      if (flags.top > n) {
        throw new UsageError(
          `--top ${flags.top} asks for more eigenvalues than there are: n = ${n}.`,
        )
      }
      if (flags.dryRun) {
        const estimate = await estimateSpectrum(opened, flags, session.signal)
        session.result(estimate.value, () => estimate.text)
        return EXIT.ok
      }
      session.resume = resumeLine()
      const result = await runSpectrum(opened, flags, session)
      session.result(contract(result), () => spectrumTable(result))
      return EXIT.ok
    } finally {
      opened.operator.dispose()
    }
  } finally {
    device.dispose()
  }
}

/** MiB as bytes. */
function mebibytes(text: string): number {
  return number(0.001)(text) * 2 ** 20
}

/** The same command again. */
function resumeLine(): string {
  return ['losscape', ...process.argv.slice(2)].map(shellWord).join(' ')
}
