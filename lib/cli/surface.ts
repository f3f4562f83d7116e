import { Command, Option } from 'commander'
import { pcaPlane } from '../analysis/pca-plane.js'
import { lossSurface } from '../analysis/surface.js'
import { type NamedParameters, weightHistograms } from '../analysis/weight-histograms.js'
import { LosscapeError } from '../errors.js'
import type { FloatVector } from '../nn/layout.js'
import type { SurfaceResult } from '../report/analyses.js'
import { formatDuration, formatNumber, formatPercent } from '../report/format.js'
import type { RunFolder } from '../train/run-folder.js'
import { ANALYSES, writeAnalysis } from './analysis-files.js'
import { EXIT, UsageError } from './exit.js'
import { type ComputeOptions, integer, number, openDevice, withComputeOptions } from './options.js'
import { finiteRows, histogramResult, orNull } from './results.js'
import { loadParameters, loadRunData, runLoss } from './run-data.js'
import { type OutputOptions, runSession, type Session, withOutputOptions } from './session.js'

interface SurfaceFlags extends OutputOptions, ComputeOptions {
  grid: number
  span: number
  split: 'train' | 'test'
  samples: number
  batch?: number
}

/** `losscape surface RUN` */
export function command(): Command {
  const base = new Command()
    .description(
      "The loss on the plane in which a run's checkpoints vary most, with the path of the training: " +
        'surface.json in the run folder, which losscape report draws. The run must have been ' +
        'trained with --keep-checkpoints.',
    )
    .argument('<run>', 'run folder')
    .option('--grid <n>', 'points along each axis, odd', integer(3), 25)
    .option('--span <x>', 'half width in units of the path along each axis', number(1e-6), 1.25)
    .addOption(
      new Option('--split <split>', 'of the data').choices(['train', 'test']).default('test'),
    )
    .option('--samples <n>', 'the first N samples at most', integer(1), 1000)
    .option('--batch <n>', 'samples per chunk; the mean is exact for any', integer(1))
  return withOutputOptions(withComputeOptions(base))
    .addHelpText(
      'after',
      `
Examples:
  losscape train --model mlp:256-64-10 --epochs 5 --keep-checkpoints 40 --out runs/a
  losscape surface runs/a
  losscape surface runs/a --grid 51 --span 2 --split train
  losscape report runs/a`,
    )
    .action((folder: string, flags: SurfaceFlags) =>
      runSession(flags, (session) => surface(folder, flags, session)),
    )
}

async function surface(folder: string, flags: SurfaceFlags, session: Session): Promise<number> {
  const { openRun } = await import('../train/run-folder.js')
  const { grid, span, split, samples, batch, dtype = 'f32' } = flags
  const { signal } = session
  const begin = performance.now()
  if (grid % 2 === 0) {
    throw new UsageError(`--grid must be odd, so that 0 is on it; got ${grid}.`)
  }
  const run = await openRun(folder)
  const { steps, vectors } = await checkpointsOf(run)
  const state = await run.loadState()
  const set = await loadRunData(run, { split, samples, signal })
  const device = await openDevice(flags)
  const bar = session.progress('surface')
  try {
    const plane = await pcaPlane(vectors, { signal })
    const { x, y, loss, accuracy, roughness } = await lossSurface(device, run.model, plane, set, {
      grid,
      span,
      loss: runLoss(run),
      batch,
      precision: dtype,
      state,
      // Those at the end of the training, at every point of the plane.
      statistics: 'frozen',
      signal,
      onProgress: (done, total) => bar.update(done, total),
    })
    const result: SurfaceResult = {
      n: run.model.size,
      samples: set.size,
      split,
      x: [...x],
      y: [...y],
      loss: finiteRows(loss, x.length),
      accuracy: accuracy && (finiteRows(accuracy, x.length) as number[][]),
      explained: [...plane.explained],
      path: plane.path.map((point, t) => ({ step: steps[t], ...point })),
      roughness: {
        index: orNull(roughness.index),
        extrema: orNull(roughness.extrema),
        triples: roughness.triples,
      },
      histograms: weightHistograms(moments(steps, vectors)).map(histogramResult),
      time_ms: performance.now() - begin,
      device: device.name,
      dtype,
    }
    await writeAnalysis(run.file(ANALYSES.surface), result)
    bar.finish(formatDuration(result.time_ms))
    session.result(result, () => summary(folder, result))
    return EXIT.ok
  } finally {
    device.dispose()
  }
}

/** Kept parameters and the final ones, once. */
async function checkpointsOf(run: RunFolder): Promise<{ steps: number[]; vectors: FloatVector[] }> {
  const last = await loadParameters(run)
  const steps = await run.keptSteps()
  if (steps.length < 2) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `${run.path} has ${steps.length} kept checkpoints, a plane needs at least 2 beside the end: ` +
        'train with --keep-checkpoints N, the steps between them.',
    )
  }
  const vectors: FloatVector[] = []
  for (const step of steps) vectors.push(await run.loadKept(step))
  const kept = vectors[vectors.length - 1]
  if (kept.some((value, i) => value !== last[i])) {
    const rows = await run.readMetrics()
    steps.push(rows.at(-1)?.step ?? steps[steps.length - 1] + 1)
    vectors.push(last)
  }
  return { steps, vectors }
}

/** Start, middle and end. */
function moments(steps: readonly number[], vectors: readonly FloatVector[]): NamedParameters[] {
  const last = steps.length - 1
  return [...new Set([0, last >> 1, last])].map((t) => ({
    name: `step ${steps[t]}`,
    params: vectors[t],
  }))
}

function summary(folder: string, { loss, explained, roughness, path }: SurfaceResult): string {
  const known = loss.flat().filter((x): x is number => x !== null)
  const [low, high] = [
    known.reduce((a, b) => Math.min(a, b)),
    known.reduce((a, b) => Math.max(a, b)),
  ]
  const half = (loss.length - 1) / 2
  return [
    `${folder}: ${path.length} checkpoints; the plane holds ` +
      `${formatPercent(explained[0])} + ${formatPercent(explained[1])} of their variance`,
    `loss ${formatNumber(low)} … ${formatNumber(high)} on the grid, ` +
      `${formatNumber(loss[half][half])} at the end of the training; ` +
      `roughness ${formatNumber(roughness.index, 3)}`,
    `losscape report ${folder} draws it.`,
  ].join('\n')
}
