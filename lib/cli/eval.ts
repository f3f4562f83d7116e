import { Command, Option } from 'commander'
import { evaluate } from '../train/evaluate.js'
import { openRun } from '../train/run-folder.js'
import { loadModel, loadState } from '../train/weights.js'
import { EXIT } from './exit.js'
import { type ComputeOptions, integer, openDevice, withComputeOptions } from './options.js'
import { loadParameters, loadRunData, runLoss } from './run-data.js'
import { type OutputOptions, runSession, type Session, withOutputOptions } from './session.js'

interface EvalFlags extends OutputOptions, ComputeOptions {
  data?: string
  split: 'train' | 'test'
  samples?: number
  batch?: number
  ema?: boolean
}

/** `losscape eval RUN` */
export function command(): Command {
  const base = new Command()
    .description('Mean loss and accuracy of a run on a data set, without dropout.')
    .argument('<run>', 'run folder')
    .option('--data <spec>', "data set, in the run's normalization (default: the run's)")
    .addOption(new Option('--split <split>', 'part').choices(['train', 'test']).default('test'))
    .option('--samples <n>', 'only the first N samples', integer(1))
    .option('--ema', 'the averaged weights of a run with --ema')
    .option('--batch <n>', 'samples per chunk; the mean is exact for any', integer(1))
  return withOutputOptions(withComputeOptions(base))
    .addHelpText(
      'after',
      `
Examples:
  losscape eval runs/a
  losscape eval runs/a --data mnist:DIR --json
  losscape eval runs/a --split train --samples 1000`,
    )
    .action((folder: string, flags: EvalFlags) =>
      runSession(flags, (session) => evalRun(folder, flags, session)),
    )
}

async function evalRun(folder: string, flags: EvalFlags, session: Session): Promise<number> {
  const { split, samples, batch, dtype } = flags
  const { signal } = session
  const run = await openRun(folder)
  const params = flags.ema
    ? await loadModel(run.file('ema.safetensors'), run.model)
    : await loadParameters(run)
  const state = flags.ema
    ? await loadState(run.file('ema.safetensors'), run.model)
    : await run.loadState()
  const set = await loadRunData(run, { spec: flags.data, split, samples, signal })
  const device = await openDevice(flags)
  try {
    const begin = performance.now()
    const { loss, accuracy } = await evaluate(device, run.model, params, set, {
      loss: runLoss(run),
      batch,
      precision: dtype,
      state,
      signal,
    })
    const time = performance.now() - begin
    const result = {
      loss,
      accuracy,
      samples: set.size,
      split,
      data: flags.data ?? run.config.data.spec,
      n: run.model.size,
      time_ms: time,
      device: device.name,
    }
    session.result(result, () => {
      const right = accuracy === null ? '' : `, accuracy ${(100 * accuracy).toFixed(2)} %`
      return `${folder}: loss ${loss.toPrecision(6)}${right} on ${set.size} ${split} samples`
    })
    return EXIT.ok
  } finally {
    device.dispose()
  }
}
