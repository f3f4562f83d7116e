import { type Command, InvalidArgumentError, Option } from 'commander'
import type { AugmentOptions } from '../data/augment/options.js'
import { parseRandAugment } from '../data/augment/rand-augment.js'
import type { DataSet } from '../data/dataset.js'
import { DEIT_CROP_RATIO, deitRecipe } from '../train/deit.js'
import type { ParameterGroup } from '../train/optimizer.js'
import { UsageError } from './exit.js'
import { integer, number } from './options.js'
import type { TrainFlags, TrainRecipe } from './train-options.js'

/** Flags of the image pipeline, of regularisation and of fine-tuning. */
export interface RecipeFlags {
  recipe: 'none' | 'deit'
  augment?: AugmentOptions
  mixup?: number
  cutmix?: number
  labelSmoothing?: number
  ema?: number
  /** Height and width that the model sees. */
  size?: number
  cropRatio?: number
  interpolation?: 'bilinear' | 'bicubic'
  workers?: number
  freeze?: string[]
  lrFactor?: LearningRateFactor[]
  initFrom?: string
  initSkip?: string
}

/** `--lr-factor GLOB=F` */
export interface LearningRateFactor {
  readonly params: string
  readonly factor: number
}

const AUGMENTATIONS = 'crop[=4], resized-crop, flip[=0.5], rand[=m9-n2-mstd0.5-inc1], jitter[=0.4]'

/** `crop,flip,rand=m15-n2-mstd1-inc1` as options of train(). */
export function parseAugment(text: string): AugmentOptions {
  const fail = (part: string): never => {
    throw new InvalidArgumentError(`Expected a list of ${AUGMENTATIONS}, or none; got '${part}'.`)
  }
  if (text === 'none') return {}
  const options: { -readonly [K in keyof AugmentOptions]: AugmentOptions[K] } = {}
  for (const part of text.split(',').map((word) => word.trim())) {
    const [name, value] = part.split(/=(.*)/s)
    const amount = value === undefined ? undefined : Number(value || Number.NaN)
    if (name !== 'rand' && amount !== undefined && !Number.isFinite(amount)) fail(part)
    if (name === 'crop') options.paddedCrop = amount ?? 4
    else if (name === 'resized-crop' && value === undefined) options.resizedCrop = true
    else if (name === 'flip') options.flip = amount ?? 0.5
    else if (name === 'jitter') options.colourJitter = amount ?? 0.4
    else if (name === 'rand') options.randAugment = randText(value ?? 'm9-n2-mstd0.5-inc1')
    else fail(part)
  }
  return options
}

function randText(text: string): string {
  try {
    parseRandAugment(text)
    return text
  } catch (error) {
    throw new InvalidArgumentError((error as Error).message)
  }
}

function factor(text: string, before: LearningRateFactor[] = []): LearningRateFactor[] {
  const [, params, value] = /^(.+)=([^=]+)$/.exec(text) ?? []
  if (params === undefined) throw new InvalidArgumentError('Expected GLOB=FACTOR.')
  return [...before, { params, factor: number(0)(value) }]
}

/** Adds the flags of {@link RecipeFlags}. */
export function withRecipeOptions(command: Command): Command {
  const choices = (flags: string, what: string, values: string[]): Option =>
    new Option(flags, what).choices(values)
  return command
    .addOption(
      choices(
        '--recipe <name>',
        'deit: AdamW, warm-up and cosine, clipping, label smoothing, mixup and CutMix, ' +
          'augmentation and averaged weights as for vision transformers; other flags replace its parts',
        ['none', 'deit'],
      ).default('none'),
    )
    .option('--augment <list>', `of training images: ${AUGMENTATIONS}, or none`, parseAugment)
    .option('--mixup <a>', 'mixes pairs of images by Beta(a, a); 0.8 is usual', number(0))
    .option('--cutmix <a>', 'puts a part of another image in; 1 is usual', number(0))
    .option('--label-smoothing <x>', 'share of labels that is spread', number(0, 0.999999))
    .option('--ema <decay>', 'averages the weights, into ema.safetensors', number(0, 0.9999999))
    .option('--size <n>', 'height and width that the model sees', integer(1))
    .option('--crop-ratio <x>', 'share that evaluation cuts out, with --size', number(0.01, 1))
    .addOption(choices('--interpolation <kind>', 'of images, with --size', ['bilinear', 'bicubic']))
    .option('--workers <n>', 'threads that augment (default: one less than --threads)', integer(1))
    .option('--init-from <run>', 'start from a run folder or a .safetensors file')
    .option('--init-skip <glob>', 'tensors that start at random all the same, such as head.*')
    .option(
      '--freeze <glob>',
      'parameters that do not move; may be repeated',
      (text: string, before: string[] = []) => [...before, text],
    )
    .option('--lr-factor <glob=x>', 'factor on the learning rate; may be repeated', factor)
}

/** Evaluation's view of the images, as `config.json` records it. */
export interface RecordedSize {
  readonly size?: number
  readonly cropRatio?: number
  readonly interpolation?: 'bilinear' | 'bicubic'
}

export function recordedSize(flags: RecipeFlags): RecordedSize {
  const { size, recipe } = flags
  if (size === undefined) {
    if (flags.cropRatio === undefined && flags.interpolation === undefined) return {}
    throw new UsageError('--crop-ratio and --interpolation go with --size.')
  }
  const deit = recipe === 'deit'
  return {
    size,
    cropRatio: flags.cropRatio ?? (deit ? DEIT_CROP_RATIO : 1),
    interpolation: flags.interpolation ?? (deit ? 'bicubic' : 'bilinear'),
  }
}

/** Flags that a recipe leaves no room for. */
const FIXED = ['optimizer', 'momentum', 'nesterov', 'schedule', 'stepEvery', 'stepGamma', 'warmup']

/** The flags over what `--recipe` says, over `plain`: the recipe of the other flags alone. */
export function withRecipe(
  plain: TrainRecipe,
  flags: TrainFlags,
  explicit: ReadonlySet<string>,
  set: DataSet,
): TrainRecipe {
  const { augment, mixup, cutmix, labelSmoothing, ema, lr } = flags
  const own = defined({ augment, mixup, cutmix, labelSmoothing, ema })
  if (flags.recipe === 'none') return withGroups({ ...plain, ...own }, flags)
  const conflict = FIXED.find((name) => explicit.has(name))
  if (conflict !== undefined) {
    const flag = conflict.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)
    throw new UsageError(
      `--recipe ${flags.recipe} decides optimizer and schedule: leave --${flag} out, or --recipe.`,
    )
  }
  const { batch, weightDecay, clip } = flags
  const epochs = explicit.has('epochs') ? flags.epochs : undefined
  const { optimizer, ...rest } = deitRecipe(set, defined({ epochs, batch, lr }))
  return withGroups(
    {
      ...defined({ loss: plain.loss, precision: plain.precision }),
      ...rest,
      ...defined({ clipNorm: clip }),
      ...own,
      optimizer: { ...optimizer, ...defined({ weightDecay }) },
    } as TrainRecipe,
    flags,
  )
}

function withGroups(recipe: TrainRecipe, { freeze = [], lrFactor = [] }: RecipeFlags): TrainRecipe {
  const groups: ParameterGroup[] = [
    ...lrFactor.map(({ params, factor }) => ({ params, lrFactor: factor })),
    ...freeze.map((params) => ({ params, frozen: true })),
  ]
  if (groups.length === 0) return recipe
  return { ...recipe, optimizer: { ...recipe.optimizer, groups } }
}

/** What is not undefined. */
function defined<T extends object>(value: T): Partial<T> {
  return Object.fromEntries(
    Object.entries(value).filter(([, item]) => item !== undefined),
  ) as Partial<T>
}
