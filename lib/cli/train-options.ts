import { type Command, InvalidArgumentError, Option } from 'commander'
import type { AugmentOptions } from '../data/augment/options.js'
import type { DataSet } from '../data/dataset.js'
import type { LossSpec } from '../nn/loss.js'
import { ACTIVATIONS, type Activation, type MlpInit } from '../nn/mlp.js'
import type { ModelOptions } from '../nn/parse.js'
import type { OptimizerSpec } from '../train/optimizer.js'
import type { ScheduleSpec } from '../train/schedule.js'
import { type ComputeOptions, integer, number, withComputeOptions } from './options.js'
import { type RecipeFlags, withRecipe, withRecipeOptions } from './recipe-options.js'
import type { OutputOptions } from './session.js'

/** What `losscape train` takes, as commander hands it over. */
export interface TrainFlags extends OutputOptions, ComputeOptions, RecipeFlags {
  out: string
  model?: string
  /** Widths of hidden layers, in place of `model`: the data decide the rest. */
  hidden?: readonly number[]
  data: string
  attention?: string
  dropPath?: number
  activation: Activation
  init: MlpInit
  layerNorm?: boolean
  dropout: number
  bias: boolean
  normalization: 'default' | 'none' | 'standardize'
  limit?: number
  labelNoise: number
  test: boolean
  loss?: string
  optimizer: OptimizerSpec['kind']
  lr?: number
  momentum: number
  nesterov?: boolean
  weightDecay?: number
  schedule: 'constant' | 'step' | 'cosine' | 'one-cycle'
  stepEvery: number
  stepGamma: number
  warmup: number
  epochs: number
  batch?: number
  accumulate?: number
  clip?: number
  keepCheckpoints?: number
  seed: number
  resume?: boolean
  overwrite?: boolean
  dryRun?: boolean
}

const INITS = [
  'pytorch',
  'kaiming-uniform',
  'kaiming-normal',
  'xavier-uniform',
  'xavier-normal',
  'normal:STD',
]

function init(text: string): MlpInit {
  const normal = /^normal:(.+)$/.exec(text)
  if (normal) return { kind: 'normal', std: number(0)(normal[1]) }
  if (INITS.includes(text) && text !== 'normal:STD') return text as MlpInit
  throw new InvalidArgumentError(`Expected one of ${INITS.join(', ')}.`)
}

/** Adds the options that shape the model, the data and the steps. */
export function withTrainOptions(command: Command): Command {
  command
    .requiredOption('--out <folder>', 'the run folder')
    .option(
      '--model <model>',
      'mlp:784-256-256-10, vit:tiny, vit:patch4,width192,depth6,heads3, convit:tiny, swin:tiny, ' +
        'resnet20:bcn-micro,ws, resnet50, vgg11:bn, lenet5',
    )
    .option('--attention <choice>', 'of transformers: softmax, karat:G3B, karat:G3U,r8, ...')
    .option(
      '--drop-path <p>',
      'of transformers: probability with which a sample skips a branch of the last block',
      number(0, 0.999999),
    )
    .option('--data <spec>', 'data set, see below', 'glyphs')
    .option('--epochs <n>', 'passes over the data', integer(1), 1)
    .option('--batch <n>', 'samples per step (default: 128, or all with gd)', integer(1))
    .option(
      '--accumulate <n>',
      'batches per step, their gradients averaged (default: 1)',
      integer(1),
    )
    .option('--seed <n>', 'of start vector, order and dropout', integer(0), 0)
    .addOption(choice('--optimizer <kind>', 'optimizer', ['sgd', 'adam', 'adamw', 'gd'], 'sgd'))
    .option('--lr <x>', 'learning rate (default: 0.1, or 0.001 for adam and adamw)', number(0))
    .option('--momentum <x>', 'of sgd', number(0), 0.9)
    .option('--nesterov', 'Nesterov momentum')
    .option('--weight-decay <x>', 'weight decay (default: 0, or 0.01 for adamw)', number(0))
    .addOption(
      choice(
        '--schedule <kind>',
        'learning rate',
        ['constant', 'step', 'cosine', 'one-cycle'],
        'constant',
      ),
    )
    .option('--step-every <n>', "epochs per stair of '--schedule step'", integer(1), 10)
    .option('--step-gamma <x>', 'factor per stair', number(0), 0.1)
    .option('--warmup <n>', 'steps of linear warm-up', integer(0), 0)
    .option('--clip <x>', 'scale gradients down to this norm', number(0))
    .option('--loss <name>', 'cross-entropy, mse, ... (default: by the data)')
  command
    .addOption(choice('--activation <name>', 'activation', Object.keys(ACTIVATIONS), 'relu'))
    .option('--init <name>', `initialisation: ${INITS.join(', ')}`, init, 'pytorch')
    .option('--layer-norm', 'layer normalisation before every activation')
    .option(
      '--dropout <p>',
      'probability with which hidden units are dropped',
      number(0, 0.999999),
      0,
    )
    .option('--no-bias', 'layers without bias')
    .addOption(
      choice(
        '--normalization <kind>',
        'of the inputs',
        ['default', 'none', 'standardize'],
        'default',
      ),
    )
    .option('--limit <n>', 'only the first N training samples', integer(1))
    .option('--label-noise <p>', 'share of training labels replaced at random', number(0, 1), 0)
    .option('--no-test', 'do not evaluate on the test split')
    .option(
      '--keep-checkpoints <n>',
      'keep the parameters every N steps in checkpoints/, for losscape surface',
      integer(1),
    )
    .option('--resume', 'go on with the run in the folder where it was interrupted')
    .option('--overwrite', 'replace the run in the folder')
  return withComputeOptions(withRecipeOptions(command))
}

function choice(flags: string, what: string, values: string[], preset: string): Option {
  return new Option(flags, what).choices(values).default(preset)
}

/** Everything that decides the result of a run, as `config.json` records it. */
export interface TrainRecipe {
  readonly loss?: LossSpec
  readonly optimizer: OptimizerSpec
  readonly schedule: ScheduleSpec
  readonly epochs: number
  readonly batch?: number
  readonly accumulate?: number
  readonly clipNorm?: number
  readonly labelSmoothing?: number
  readonly augment?: AugmentOptions
  readonly mixup?: number
  readonly cutmix?: number
  readonly ema?: number
  readonly precision: 'f32' | 'f64'
}

/** The flags as options of train(). */
export function recipe(
  flags: TrainFlags,
  explicit: ReadonlySet<string>,
  set: DataSet,
): TrainRecipe {
  return withRecipe(plainRecipe(flags), flags, explicit, set)
}

function plainRecipe(flags: TrainFlags): TrainRecipe {
  const { epochs, batch, accumulate, clip } = flags
  return {
    ...(flags.loss !== undefined && { loss: flags.loss as LossSpec }),
    optimizer: optimizer(flags),
    schedule: schedule(flags),
    epochs,
    ...(batch !== undefined && { batch }),
    ...(accumulate !== undefined && { accumulate }),
    ...(clip !== undefined && { clipNorm: clip }),
    precision: flags.dtype ?? 'f32',
  }
}

function optimizer({
  optimizer: kind,
  momentum,
  nesterov,
  weightDecay,
  ...flags
}: TrainFlags): OptimizerSpec {
  const adaptive = kind === 'adam' || kind === 'adamw'
  const lr = flags.lr ?? (adaptive ? 0.001 : 0.1)
  const decay = weightDecay === undefined ? {} : { weightDecay }
  if (kind !== 'sgd') return { kind, lr, ...decay }
  return { kind, lr, momentum, ...(nesterov && { nesterov }), ...decay }
}

function schedule(flags: TrainFlags): ScheduleSpec {
  const { schedule: kind, warmup: steps, stepEvery: every, stepGamma: gamma } = flags
  const warmup = steps > 0 ? { warmup: { steps } } : {}
  return kind === 'step' ? { kind, every, gamma, ...warmup } : { kind, ...warmup }
}

/**
 * The flags as options of a model: those of multilayer perceptrons go to transformers only where
 * they differ from the presets, to be refused there.
 */
export function modelOptions(flags: TrainFlags, model: string): ModelOptions {
  const { activation, init: start, dropout, bias, layerNorm = false, attention, dropPath } = flags
  const own = {
    ...(attention !== undefined && { attention }),
    ...(dropPath !== undefined && { dropPath }),
  }
  if (model.startsWith('mlp:')) return { activation, init: start, dropout, bias, layerNorm, ...own }
  return {
    ...(activation !== 'relu' && { activation }),
    ...(start !== 'pytorch' && { init: start }),
    ...(!bias && { bias }),
    ...(layerNorm && { layerNorm }),
    dropout,
    ...own,
  }
}
