import { Command, Option } from 'commander'
import { attentionCost } from '../analysis/attention-cost.js'
import { type AttentionMap, attentionMaps } from '../analysis/attention-maps.js'
import { attentionMatrices } from '../analysis/attention-matrices.js'
import { attentionSpectrum, type LogValues } from '../analysis/attention-spectrum.js'
import { headHistograms } from '../analysis/weight-histograms.js'
import { type DataSet, elements, inputScale } from '../data/dataset.js'
import { attentionAnatomy } from '../nn/attention/anatomy.js'
import type { AttentionResult, HistogramResult, LogBand } from '../report/analyses.js'
import { formatDuration, formatNumber } from '../report/format.js'
import { textTable } from '../report/table.js'
import { openRun } from '../train/run-folder.js'
import { ANALYSES, writeAnalysis } from './analysis-files.js'
import { EXIT } from './exit.js'
import { type ComputeOptions, integer, number, openDevice, withComputeOptions } from './options.js'
import { histogramResult, orNull } from './results.js'
import { loadParameters, loadRunData, runLoss } from './run-data.js'
import { type OutputOptions, runSession, type Session, withOutputOptions } from './session.js'

interface AttentionFlags extends OutputOptions, ComputeOptions {
  images: number
  split: 'train' | 'test'
  maps?: AttentionMap['kind']
  mass: number
  batch: number
}

/** A head of a small network has few hundred coefficients. */
const HEAD_BINS = 41

/** `losscape attention RUN` */
export function command(): Command {
  const base = new Command()
    .description(
      'The attention of a vision transformer: singular values before and after the activation, maps ' +
        'of the class token, coefficients of learnable attention, parameters, operations, memory ' +
        'and throughput: attention.json in the run folder, which losscape report draws.',
    )
    .argument('<run>', 'run folder')
    .option('--images <n>', 'the first N images', integer(1), 5)
    .addOption(
      new Option('--split <split>', 'of the data').choices(['train', 'test']).default('test'),
    )
    .addOption(
      new Option(
        '--maps <kind>',
        'what maps show (default: weights for softmax, scores for learnable heads)',
      ).choices(['weights', 'scores', 'clamped']),
    )
    .option('--mass <x>', "share of a map's mass that its mask keeps", number(1e-6, 1), 0.6)
    .option('--batch <n>', 'images a pass whose cost is measured', integer(1), 32)
  return withOutputOptions(withComputeOptions(base))
    .addHelpText(
      'after',
      `
Examples:
  losscape train --model vit:patch4,width96,depth4,heads3 --attention karat:G3B \\
    --data cifar10:DIR --out runs/g3b
  losscape attention runs/g3b
  losscape attention runs/g3b --images 9 --maps clamped --json
  losscape report runs/g3b`,
    )
    .action((folder: string, flags: AttentionFlags) =>
      runSession(flags, (session) => attention(folder, flags, session)),
    )
}

async function attention(folder: string, flags: AttentionFlags, session: Session): Promise<number> {
  const { split, mass, maps: kind, batch, dtype } = flags
  const { signal } = session
  const begin = performance.now()
  const run = await openRun(folder)
  const { model } = run
  const anatomy = attentionAnatomy(model)
  const params = await loadParameters(run)
  const samples = Math.max(flags.images, batch)
  const set = await loadRunData(run, { split, samples, signal })
  const images = Array.from({ length: Math.min(flags.images, set.size) }, (_, i) => i)
  const device = await openDevice(flags)
  const bar = session.progress('attention')
  try {
    const steps = 2 * anatomy.depth + 1
    // Kernels in float64, whatever the run: ranks are told by rounding.
    const blocks = await attentionMatrices(device, model, params, set, {
      images,
      signal,
      onProgress: (done) => bar.update(done, steps, 'matrices'),
    })
    const spectra: AttentionResult['spectra'] = []
    for (const block of blocks) {
      const { scores, weights, rank, range } = await attentionSpectrum(block, { signal })
      spectra.push({
        block: block.block,
        scores: logBand(scores),
        weights: logBand(weights),
        rank,
        range,
      })
      bar.update(anatomy.depth + spectra.length, steps, 'singular values')
    }
    const cost = await attentionCost(device, model, set, {
      batch,
      loss: runLoss(run),
      precision: dtype,
      signal,
    })
    const maps = attentionMaps(blocks[blocks.length - 1], anatomy, { kind, mass })
    const result: AttentionResult = {
      model: model.name,
      attention: attentionName(model.config.attention),
      images: images.length,
      split,
      tokens: anatomy.tokens,
      heads: anatomy.heads,
      blocks: anatomy.depth,
      grid: [...anatomy.grid],
      mass,
      spectra,
      maps: images.map((image) => imageMaps(image, maps, set)),
      pictures: images.map((image) => picture(set, image)),
      coefficients: headHistograms(model, params, { bins: HEAD_BINS }).flatMap(
        coefficientHistograms,
      ),
      cost: {
        ...cost,
        activationOperations: orNull(cost.activationOperations),
      },
      time_ms: performance.now() - begin,
      device: device.name,
    }
    await writeAnalysis(run.file(ANALYSES.attention), result)
    bar.finish(formatDuration(result.time_ms))
    session.result(result, () => summary(folder, result))
    return EXIT.ok
  } finally {
    device.dispose()
  }
}

function attentionName(attention: unknown): string {
  return typeof attention === 'string' ? attention : JSON.stringify(attention)
}

function logBand({ min, mean, max }: LogValues): LogBand {
  return {
    min: Array.from(min, orNull),
    mean: Array.from(mean, orNull),
    max: Array.from(max, orNull),
  }
}

function imageMaps(
  image: number,
  maps: readonly AttentionMap[],
  set: DataSet,
): AttentionResult['maps'][number] {
  const own = maps.filter((map) => map.image === image)
  return {
    image,
    label: set.targets instanceof Int32Array ? set.targets[image] : null,
    kind: own[0].kind,
    heads: own.map(({ values }) => [...values]),
    masks: own.map(({ mask }) => [...mask]),
  }
}

/** Mean over the channels, stretched to [0, 1]. */
function picture(set: DataSet, image: number): AttentionResult['pictures'][number] {
  const [rows, columns] = set.shape.slice(-2)
  const size = rows * columns
  const stride = elements(set.shape)
  const channels = stride / size
  const scale = inputScale(set.inputs)
  const values = Array.from({ length: size }, (_, i) => {
    let sum = 0
    for (let c = 0; c < channels; c++) sum += set.inputs[image * stride + c * size + i]
    return (scale * sum) / channels
  })
  const low = Math.min(...values)
  const range = Math.max(...values) - low || 1
  return { rows, columns, values: values.map((v) => Number(((v - low) / range).toPrecision(4))) }
}

function coefficientHistograms({
  block,
  head,
  coefficients,
  projector,
}: ReturnType<typeof headHistograms>[number]): HistogramResult[] {
  const name = `${block}, head ${head}`
  return [
    histogramResult({ name: `${name} coefficients`, ...coefficients }),
    ...(projector ? [histogramResult({ name: `${name} projector`, ...projector })] : []),
  ]
}

function summary(folder: string, { spectra, cost, attention, tokens, images }: AttentionResult) {
  const rows = spectra.map(({ block, rank, range, weights }) => [
    `block ${block}`,
    rank.min === rank.max ? `${rank.min}` : `${rank.min} … ${rank.max}`,
    formatNumber(Math.exp(weights.max[0] ?? Number.NaN), 3),
    `${formatNumber(range.min, 3)} … ${formatNumber(range.max, 3)}`,
  ])
  return [
    `${folder}: ${attention} attention over ${tokens} tokens, ${images} images`,
    '',
    textTable(['', 'rank of the weights', 'largest σ', 'scores'], rows),
    '',
    `${formatNumber(cost.parameters)} parameters, ${formatNumber(cost.attentionParameters)} of them in ` +
      'learnable functions and projectors',
    `${formatNumber(cost.trainingBytes / 2 ** 20, 3)} MiB for loss and gradients of ${cost.batch} images; ` +
      `${formatNumber(cost.forwardImagesPerSecond, 3)} images a second forward, ` +
      `${formatNumber(cost.trainingImagesPerSecond, 3)} with gradients`,
    `losscape report ${folder} draws it.`,
  ].join('\n')
}
