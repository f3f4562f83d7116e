import type { RunFolder } from '../train/run-folder.js'
import { UsageError } from './exit.js'
import type { TrainFlags } from './train-options.js'

/** Where `config.json` records what a flag says. */
const RECORDED: Partial<Record<keyof TrainFlags, string>> = {
  model: 'model.model',
  activation: 'model.activation',
  init: 'model.init',
  layerNorm: 'model.layerNorm',
  dropout: 'model.dropout',
  bias: 'model.bias',
  data: 'data.spec',
  limit: 'data.limit',
  labelNoise: 'data.labelNoise',
  loss: 'training.loss',
  optimizer: 'training.optimizer.kind',
  lr: 'training.optimizer.lr',
  momentum: 'training.optimizer.momentum',
  nesterov: 'training.optimizer.nesterov',
  weightDecay: 'training.optimizer.weightDecay',
  schedule: 'training.schedule.kind',
  stepEvery: 'training.schedule.every',
  stepGamma: 'training.schedule.gamma',
  warmup: 'training.schedule.warmup.steps',
  epochs: 'training.epochs',
  batch: 'training.batch',
  accumulate: 'training.accumulate',
  clip: 'training.clipNorm',
  augment: 'training.augment',
  mixup: 'training.mixup',
  cutmix: 'training.cutmix',
  labelSmoothing: 'training.labelSmoothing',
  ema: 'training.ema',
  size: 'data.size',
  cropRatio: 'data.cropRatio',
  interpolation: 'data.interpolation',
  recipe: 'training.given.recipe',
  freeze: 'training.given.freeze',
  lrFactor: 'training.given.lrFactor',
  initFrom: 'training.initFrom.path',
  initSkip: 'training.initFrom.skip',
  keepCheckpoints: 'training.keepCheckpoints',
  dtype: 'training.precision',
  test: 'training.test',
  seed: 'seed',
}

/**
 * A resumed run follows its own record; flags may repeat it, not change it.
 * @throws ERR_ARGUMENT naming every flag that says otherwise
 */
export function requireSameFlags(
  run: RunFolder,
  flags: TrainFlags,
  explicit: ReadonlySet<string>,
): void {
  const differences: string[] = []
  for (const [name, path] of Object.entries(RECORDED)) {
    if (!explicit.has(name)) continue
    const given = flags[name as keyof TrainFlags]
    const recorded = lookUp(run.config, path)
    if (JSON.stringify(given) === JSON.stringify(recorded)) continue
    const flag = name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)
    differences.push(`--${flag} ${given} (the run: ${JSON.stringify(recorded) ?? 'not set'})`)
  }
  if (differences.length === 0) return
  throw new UsageError(
    `${run.path} was started otherwise: ${differences.join(', ')}. Leave these out to resume it, ` +
      'or start a new run with another --out or --overwrite.',
  )
}

function lookUp(value: unknown, path: string): unknown {
  return path
    .split('.')
    .reduce((at, key) => (at as Record<string, unknown> | undefined)?.[key], value)
}
