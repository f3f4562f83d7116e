import { argumentError, describe } from '../../arguments.js'
import { LosscapeError } from '../../errors.js'
import {
  type AttentionChoice,
  type KaratBasisChoice,
  type KaratHead,
  type KaratOptions,
  karatSetting,
} from './options.js'

type Mutable<T> = { -readonly [K in keyof T]: T[K] }

const WORDS: Readonly<Record<string, KaratOptions>> = {
  'w-phi': { order: 'w-phi' },
  'phi-w': { order: 'phi-w' },
  'phi-phi': { order: 'phi-phi' },
  full: { order: 'full' },
  identity: { base: 'identity' },
  silu: { base: 'silu' },
  gelu: { base: 'gelu' },
  'edge-scales': { edgeScales: true },
  'latent-bias': { latentBias: true },
  'project-latent': { projection: 'latent' },
  'project-output': { projection: 'output' },
}

/**
 * Attention from its text: `softmax`, or `karat:` and items separated by commas; `karat` alone is
 * `karat:G3B`. An item may be given once, and `full` takes no `r`, which is N there.
 *
 * | item | meaning |
 * |---|---|
 * | `G3B`, `G3U`, `G3`, `B`, `U` | G, and one set of functions a block (B, default) or for all (U) |
 * | `r12` | latent dimension |
 * | `w-phi`, `phi-w`, `phi-phi`, `full` | order |
 * | `identity`, `silu`, `gelu` | base function |
 * | `edge-scales`, `latent-bias` | trainable ws and wb, c0 |
 * | `project-latent`, `project-output` | projection on the simplex |
 * | `init=paper`, `init=smooth` | initialisation |
 * | `basis=morlet` | basis, sized by G |
 * | `heads=softmax/G3/G1r4` | one entry a head |
 *
 * @returns null for softmax
 * @throws ERR_ARGUMENT
 *
 * @example
 * parseAttention('karat:G3B,r8,silu') // { G: 3, share: 'block', r: 8, base: 'silu' }
 */
export function parseAttention(choice: AttentionChoice): KaratOptions | null {
  if (typeof choice === 'object' && choice !== null && !Array.isArray(choice)) {
    karatSetting({ ...choice, heads: undefined })
    requireOwnRank(choice)
    return choice
  }
  if (typeof choice !== 'string') {
    throw argumentError('attention', 'the choice', "'softmax', 'karat:..' or an object", choice)
  }
  if (choice === 'softmax') return null
  const [family, body = 'G3B'] = choice.split(/:(.*)/s)
  if (family !== 'karat') {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `Unknown attention ${describe(choice)}; known: softmax, karat:G3B, karat:G3U,r8,...`,
    )
  }
  const options: Mutable<KaratOptions> = {}
  const places = new Map<string, string>()
  for (const item of body.split(',').map((word) => word.trim())) {
    const given = parseItem(item, choice)
    for (const name of Object.keys(given)) {
      const before = places.get(name)
      if (before !== undefined) throw repeated(choice, name, before, item)
      places.set(name, item)
    }
    Object.assign(options, given)
  }
  karatSetting({ ...options, heads: undefined })
  requireOwnRank(options)
  return options
}

function repeated(text: string, name: string, before: string, item: string): LosscapeError {
  return new LosscapeError(
    'ERR_ARGUMENT',
    `'${text}' says ${name} twice, by '${before}' and '${item}'; leave one of them out.`,
  )
}

/** @throws ERR_ARGUMENT for a latent dimension in order 'full', which has none of its own */
function requireOwnRank({ order, r, heads = [] }: KaratOptions): void {
  if (order !== 'full') return
  const own =
    r ?? (Array.isArray(heads) ? heads.find((head) => head?.r !== undefined)?.r : undefined)
  if (own === undefined) return
  throw new LosscapeError(
    'ERR_ARGUMENT',
    `karat attention: order 'full' has no latent dimension to choose (it is the number of tokens); ` +
      `got r = ${own}. Leave r out, or take another order.`,
  )
}

function parseItem(item: string, text: string): KaratOptions {
  if (Object.hasOwn(WORDS, item)) return WORDS[item]
  const grid = /^(?:G(\d+))?([BU])?$/.exec(item)
  if (item !== '' && grid) {
    const [, G, share] = grid
    return {
      ...(G !== undefined && { G: Number(G) }),
      ...(share !== undefined && { share: share === 'U' ? 'universal' : 'block' }),
    }
  }
  const rank = /^r(\d+)$/.exec(item)
  if (rank) return { r: Number(rank[1]) }
  const [, name, value] = /^(init|basis|heads)=(.+)$/.exec(item) ?? []
  if (name === 'init') return { init: value as KaratOptions['init'] }
  if (name === 'basis') return { basis: value as KaratBasisChoice }
  if (name === 'heads') return { heads: value.split('/').map((head) => parseHead(head, text)) }
  throw new LosscapeError(
    'ERR_ARGUMENT',
    `'${text}' has the item '${item}'; expected G3B, r12, ${Object.keys(WORDS).join(', ')}, ` +
      'init=.., basis=.. or heads=softmax/G3/G1r4.',
  )
}

function parseHead(head: string, text: string): KaratHead {
  if (head === 'softmax') return head
  const found = /^(?:G(\d+))?(?:r(\d+))?$/.exec(head)
  if (!found || head === '') {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `'${text}' has the head '${head}'; expected softmax, G3, r12 or G3r12.`,
    )
  }
  const [, G, r] = found
  return { ...(G !== undefined && { G: Number(G) }), ...(r !== undefined && { r: Number(r) }) }
}
