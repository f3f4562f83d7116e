import { argumentError, isShape } from '../arguments.js'
import { LosscapeError } from '../errors.js'
import { requireOptions } from '../options.js'
import type { Shape } from '../program/types.js'
import { type ConvitOptions, convit } from './convit.js'
import {
  type AnyConvnetOptions,
  CONVNET_FAMILIES,
  convnetFamily,
  parseConvnet,
} from './convnet/parse.js'
import { type MlpOptions, mlp } from './mlp.js'
import type { Model } from './model.js'
import { type SwinOptions, swin } from './swin.js'
import { vit } from './vit.js'
import { VIT_SIZES, type VitOptions, type VitSize } from './vit-config.js'

/** Options of a family; those of another family than the string's are refused. */
export type ModelOptions =
  | Partial<MlpOptions>
  | VitOptions
  | ConvitOptions
  | SwinOptions
  | AnyConvnetOptions

/** What a model string leaves open. */
export interface ParseContext {
  /** Shape of one sample; must fit the string's first width, or be an image for transformers. */
  readonly input?: Shape
  /** Outputs where the string does not say; an mlp's string always does. */
  readonly classes?: number
  readonly options?: ModelOptions
}

type Family = (body: string, context: ParseContext) => Model

/** Model strings by their prefix; further families register here. */
const families: Record<string, Family> = {
  mlp(body, { input, options }) {
    const widths = body.split('-').map(Number)
    if (widths.length < 2 || widths.some((w) => !Number.isInteger(w) || w < 1)) {
      throw new LosscapeError(
        'ERR_ARGUMENT',
        `'mlp:${body}' is not a model: expected widths such as mlp:784-256-256-10.`,
      )
    }
    const features = input?.reduce((n, d) => n * d, 1)
    if (features !== undefined && features !== widths[0]) {
      throw new LosscapeError(
        'ERR_SHAPE',
        `'mlp:${body}' takes ${widths[0]} inputs, but a sample of shape [${input}] has ${features}.`,
      )
    }
    return mlp({
      ...(options as Partial<MlpOptions>),
      input: input ?? widths[0],
      hidden: widths.slice(1, -1),
      classes: widths[widths.length - 1],
    })
  },
  vit(body, context) {
    const [size, ...items] = sized(body, Object.keys(VIT_SIZES))
    return vit({
      ...settings('vit', items, ['patch', 'width', 'depth', 'heads', 'classes', 'mlpRatio']),
      ...(size !== '' && { size: size as VitSize }),
      ...open(context),
    } as VitOptions)
  },
  convit(body, context) {
    const [, ...items] = sized(body, ['tiny'])
    return convit({
      ...settings('convit', items, ['patch', 'width', 'depth', 'heads', 'gated', 'classes']),
      ...open(context),
    } as ConvitOptions)
  },
  swin(body, context) {
    const [, ...items] = sized(body, ['tiny'])
    return swin({
      ...settings('swin', items, ['patch', 'width', 'depths', 'heads', 'window', 'classes']),
      ...open(context),
    } as SwinOptions)
  },
}

/** The size that a body begins with, '' for none, and its other items. */
function sized(body: string, sizes: readonly string[]): string[] {
  const items = body.split(',').map((item) => item.trim())
  return sizes.includes(items[0]) ? items : ['', ...items]
}

/** `patch4`, `depths2-2-6-2`: a name and a number, or several joined by dashes. */
function settings(
  family: string,
  items: readonly string[],
  names: readonly string[],
): Record<string, number | number[]> {
  const result: Record<string, number | number[]> = {}
  const places = new Map<string, string>()
  for (const item of items) {
    const [, name, value] = /^([a-zA-Z]+)=?([\d.]+(?:-\d+)*)$/.exec(item) ?? []
    const before = places.get(name)
    if (before !== undefined) {
      throw new LosscapeError(
        'ERR_ARGUMENT',
        `'${family}:..' says ${name} twice, by '${before}' and '${item}'; leave one of them out.`,
      )
    }
    places.set(name, item)
    if (!names.includes(name)) {
      throw new LosscapeError(
        'ERR_ARGUMENT',
        `'${family}:..' has the item '${item}'; expected a size such as tiny, or ` +
          `${names.map((known) => `${known}N`).join(', ')}.`,
      )
    }
    const list = family === 'swin' && (name === 'depths' || name === 'heads')
    result[name] = list ? value.split('-').map(Number) : Number(value)
  }
  return result
}

/**
 * What the context adds. Options that are undefined or false by default are left out, so that a
 * caller may pass the flags of all families.
 */
function open({ input, classes, options = {} }: ParseContext): object {
  const given = Object.entries(options).filter(
    ([name, value]) => value !== undefined && !(name === 'layerNorm' && value === false),
  )
  return {
    ...(classes !== undefined && { classes }),
    ...Object.fromEntries(given),
    ...(input && { input }),
  }
}

/**
 * A model from its string:
 *
 * | string | model |
 * |---|---|
 * | `mlp:784-256-10` | {@link mlp} with these widths |
 * | `vit:tiny`, `vit:small`, `vit:base` | {@link vit} of that size |
 * | `vit:patch4,width192,depth6,heads3` | any other; sizes take such items too: `vit:tiny,patch4` |
 * | `convit:tiny` | {@link convit} |
 * | `swin:tiny`, `swin:width48,depths2-2,heads3-6` | {@link swin} |
 * | `resnet20`, `resnet110:bcn,ws`, `resnet20:gn16,w2` | {@link cifarResnet}: norm, weight standardisation, width |
 * | `resnet50`, `resnet18:bcn-micro,ws,small`, `resnext50:gn,ws` | {@link resnet}, {@link resnext} |
 * | `vgg11:bn`, `vgg16`, `lenet5` | {@link vgg}, {@link lenet} |
 * | `segmentation:resnet18,gn,ws` | {@link segmentation} |
 *
 * @throws ERR_ARGUMENT for an unknown family, naming the known ones
 */
export function parseModel(text: string, context: ParseContext = {}): Model {
  if (typeof text !== 'string') throw argumentError('parse()', 'the model', 'a string', text)
  requireOptions('parse()', context, ['input', 'classes', 'options'])
  const { input } = context
  if (input !== undefined && !isShape(input)) {
    throw argumentError('parse()', 'input', 'the shape of a sample', input)
  }
  const colon = text.indexOf(':')
  const prefix = text.slice(0, Math.max(colon, 0))
  const convnet = convnetFamily(colon < 0 ? text : prefix)
  if (convnet) return parseConvnet(convnet, text, open(context) as Record<string, unknown>)
  const family = Object.hasOwn(families, prefix) ? families[prefix] : null
  if (!family) {
    const known = Object.keys(families)
      .map((known) => `${known}:..`)
      .concat(CONVNET_FAMILIES)
      .join(', ')
    throw new LosscapeError('ERR_ARGUMENT', `Unknown model '${text}'; known models: ${known}.`)
  }
  return family(text.slice(colon + 1), context)
}
