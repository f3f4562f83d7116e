import { LosscapeError } from '../../errors.js'
import type { Model } from '../model.js'
import { CIFAR_DEPTHS, type CifarResnetOptions, cifarResnet, isCifarDepth } from './cifar-resnet.js'
import { lenet } from './lenet.js'
import { NORM_KINDS, type NormOption, type NormSettings } from './norm-options.js'
import type { ConvnetOptions } from './options.js'
import {
  type ResnetDepth,
  type ResnetOptions,
  type ResnextOptions,
  resnet,
  resnext,
} from './resnet.js'
import { type SegmentationOptions, segmentation } from './segmentation.js'
import { type VggOptions, vgg } from './vgg.js'

/** Options of any convolutional network. */
export type AnyConvnetOptions =
  | ConvnetOptions
  | CifarResnetOptions
  | ResnetOptions
  | ResnextOptions
  | VggOptions
  | SegmentationOptions

type Settings = Record<string, unknown>
type Family = (settings: Settings) => Model

const families: Readonly<Record<string, Family>> = {
  ...Object.fromEntries(
    ([18, 34, 50, 101] as ResnetDepth[]).map((depth): [string, Family] => [
      `resnet${depth}`,
      (settings) => resnet({ ...settings, depth }),
    ]),
  ),
  resnext50: (settings) => resnext({ ...settings, depth: 50 }),
  resnext101: (settings) => resnext({ ...settings, depth: 101 }),
  vgg11: (settings) => vgg({ ...settings, depth: 11 }),
  vgg16: (settings) => vgg({ ...settings, depth: 16 }),
  lenet5: (settings) => lenet(settings),
  segmentation: (settings) => segmentation(settings),
}

/** Prefixes of the strings of convolutional networks; every other depth 6 n + 2 is one too. */
export const CONVNET_FAMILIES: readonly string[] = [
  ...CIFAR_DEPTHS.map((depth) => `resnet${depth}`),
  ...Object.keys(families),
]

/** The family of a prefix, null for that of another model. */
export function convnetFamily(name: string): Family | null {
  if (Object.hasOwn(families, name)) return families[name]
  const depth = Number(/^resnet(\d+)$/.exec(name)?.[1])
  return isCifarDepth(depth) ? (settings) => cifarResnet({ ...settings, depth }) : null
}

const WORDS: Readonly<Record<string, readonly [name: string, value: unknown]>> = {
  preact: ['preactivation', true],
  small: ['stem', 'cifar'],
  'no-aspp': ['aspp', false],
  'no-fpn': ['fpn', false],
}

/** An item as the option that it sets; null for what is none. */
function setting(item: string): readonly [string, unknown] | null {
  if (Object.hasOwn(WORDS, item)) return WORDS[item]
  const [, kind, groups] = /^([a-z-]+?)(\d+)?$/.exec(item) ?? []
  if ((NORM_KINDS as string[]).includes(kind)) {
    return ['norm', groups === undefined ? kind : { kind, groups: Number(groups) }]
  }
  if (item === 'ws') return ['ws', true]
  if (item.startsWith('ws-')) return ['ws', item.slice(3)]
  const [, name, number] = /^(w|classes|hidden|pool|resnet)=?(\d+(?:\.\d+)?)$/.exec(item) ?? []
  if (name === undefined) return null
  return [{ w: 'width', resnet: 'depth' }[name] ?? name, Number(number)]
}

const EXPECTED =
  `a norm (${NORM_KINDS.join(', ')}; with groups: gn16, bcn8), ws, ws-PRESET, wN, classesN, ` +
  'preact, small (3 x 3 stem), hiddenN and poolN of vgg, resnetN, no-aspp and no-fpn of segmentation'

/**
 * A convolutional network from its string, `resnet20:bcn,ws`, `resnet18:gn16,w0.5`, `vgg11:bn`, with
 * further options, which go beyond the string but do not contradict it.
 *
 * @throws ERR_ARGUMENT for unknown items, repeated ones and contradictions
 */
export function parseConvnet(family: Family, text: string, options: Settings): Model {
  const settings: Settings = {}
  const body = text.includes(':') ? text.slice(text.indexOf(':') + 1) : ''
  for (const item of body === '' ? [] : body.split(',').map((part) => part.trim())) {
    const pair = setting(item)
    if (pair === null) {
      throw new LosscapeError(
        'ERR_ARGUMENT',
        `'${text}' has the item '${item}'; expected ${EXPECTED}.`,
      )
    }
    const [name, value] = pair
    if (Object.hasOwn(settings, name)) {
      throw new LosscapeError('ERR_ARGUMENT', `'${text}' says twice what ${name} is.`)
    }
    settings[name] = value
  }
  for (const [name, value] of Object.entries(options)) {
    if (Object.hasOwn(settings, name) && contradict(name, settings[name], value)) {
      throw new LosscapeError(
        'ERR_ARGUMENT',
        `'${text}' and the option ${name} (${JSON.stringify(value)}) contradict each other.`,
      )
    }
  }
  return family({ ...settings, ...options })
}

function contradict(name: string, said: unknown, given: unknown): boolean {
  if (name === 'norm') {
    const [a, b] = [said, given].map((norm) => settingsOf(norm as NormOption))
    return a.kind !== b.kind || (a.groups !== undefined && a.groups !== b.groups)
  }
  if (name === 'ws') {
    const preset = (ws: unknown): unknown =>
      typeof ws === 'object' && ws !== null && 'preset' in ws ? ws.preset : ws
    return given === false || (typeof said === 'string' && said !== preset(given))
  }
  return said !== given
}

function settingsOf(norm: NormOption): NormSettings {
  return typeof norm === 'string' ? { kind: norm } : norm
}
