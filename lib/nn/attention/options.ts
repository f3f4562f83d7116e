import { argumentError } from '../../arguments.js'
import { LosscapeError } from '../../errors.js'
import { type KaratBase, type KaratBasis, karatFeatureCount } from '../../ops/karat-bases.js'
import { type EdgeBasis, edgeParameters } from '../../ops/karat-edges-functions.js'
import { requireOptions } from '../../options.js'

/** Order of the learnable functions φ and the linear map W; see {@link KaratOptions}. */
export type KaratOrder = 'w-phi' | 'phi-w' | 'phi-phi' | 'full'
/** Where rows are projected on the simplex. */
export type KaratProjection = 'none' | 'latent' | 'output'
/** One set of functions a block, or one for all blocks. */
export type KaratShare = 'block' | 'universal'
/** How coefficients begin. */
export type KaratInit = 'variance' | 'paper' | 'smooth'
/** What one head does: softmax, or learnable functions with its own G and r. */
export type KaratHead = 'softmax' | { readonly G?: number; readonly r?: number }
/** Of sums of features, or with the parameters inside the function. */
export type AnyBasis = KaratBasis | EdgeBasis
/** A basis by its name, sized by G, or with all of its numbers. */
export type KaratBasisChoice = AnyBasis['kind'] | AnyBasis

/**
 * Kolmogorov-Arnold attention (KArAt): the scores x = s q·k of a row go through learnable functions
 * of one variable instead of softmax, after Maity, Hitsman, Li and Dutta, "Kolmogorov-Arnold
 * Attention: Is Learnable Attention Better For Vision Transformers?", arXiv 2503.10632.
 *
 *     φ_pm(x) = wb_pm b(x) + ws_pm Σ_g [ a_pmg cos(g x) + b_pmg sin(g x) ]      (Fourier basis)
 *
 * | order | weights σ̂ [N, N] of the values | cost a row |
 * |---|---|---|
 * | `w-phi` | Z Wᵀ with Z_np = c0_p + Σ_m φ_pm(x_nm) | linear in N |
 * | `phi-w` | σ̂_nl = Σ_p φ_pl(Y_np) with Y = X W + c0 | independent of N |
 * | `phi-phi` | σ̂_nl = Σ_p φ'_pl(Z_np): functions in both places | linear in N |
 * | `full` | σ̂_nl = c0_l + Σ_m φ_lm(x_nm): N² functions | linear in N |
 *
 * Rows of σ̂ are signed and not normalised. N is a dimension of the parameters: a model works for
 * one number of tokens only.
 */
export interface KaratOptions {
  /** Number of harmonics, or what sizes the basis. Default 3. */
  readonly G?: number
  /** Latent dimension; N in order 'full'. Default 12. */
  readonly r?: number
  /** Default 'fourier', with G harmonics. */
  readonly basis?: KaratBasisChoice
  /** b(x), only with bases that are sums of features. Default 'zero'. */
  readonly base?: KaratBase
  /**
   * Trainable ws and wb on every edge, 2 G + 3 parameters an edge (with W), as the paper's counts
   * have it. Default false: ws = wb = 1, 2 G + 1 as in its formulas.
   */
  readonly edgeScales?: boolean
  /** Trainable c0. Default false. */
  readonly latentBias?: boolean
  /** Default 'w-phi', the paper's main method. */
  readonly order?: KaratOrder
  /**
   * Euclidean projection on the simplex: of the latent numbers (Z or Y, as the paper's pseudocode
   * has it), or of the rows of σ̂ (as its text has it), which must be formed for that. Default 'none'.
   */
  readonly projection?: KaratProjection
  /** Default 'block'. */
  readonly share?: KaratShare
  /**
   * `variance` (default): a, b ~ N(0, 1 / (N G)) and W ~ N(0, 1 / (r N)), which gives Var Z = 1 and
   * Var O = Var V for any scores. `smooth`: N(0, 1 / (N g⁴)) for harmonic or degree g; as
   * `variance` for bases without frequencies. `paper`: N(0, 1), and
   * W ~ U(±1/√r).
   */
  readonly init?: KaratInit
  /** One entry a head; default: all heads alike. Heads with equal entries share tensors. */
  readonly heads?: readonly KaratHead[]
  /**
   * O = Z (Wᵀ V) instead of (Z Wᵀ) V, so that no N x N tensor is formed. Default true where
   * possible, which is everywhere but with projection 'output'.
   */
  readonly reassociate?: boolean
}

/** `'softmax'`, a text for {@link parseAttention} such as `'karat:G3B'`, or {@link KaratOptions}. */
export type AttentionChoice = string | KaratOptions

/** KArAt options with defaults filled in, for heads that are alike. */
export interface KaratSetting {
  readonly G: number
  readonly r: number
  readonly basis: AnyBasis
  readonly base: KaratBase
  readonly edgeScales: boolean
  readonly latentBias: boolean
  readonly order: KaratOrder
  readonly projection: KaratProjection
  readonly share: KaratShare
  readonly init: KaratInit
  readonly reassociate: boolean
}

const KNOWN: readonly (keyof KaratOptions)[] = [
  ...(['G', 'r', 'basis', 'base', 'edgeScales', 'latentBias', 'order', 'projection'] as const),
  ...(['share', 'init', 'heads', 'reassociate'] as const),
]

const CHOICES = {
  base: ['zero', 'identity', 'silu', 'gelu'],
  order: ['w-phi', 'phi-w', 'phi-phi', 'full'],
  projection: ['none', 'latent', 'output'],
  share: ['block', 'universal'],
  init: ['variance', 'paper', 'smooth'],
} as const

const SEPARABLE: readonly string[] = ['fourier', 'chebyshev', 'rbf', 'bspline']
const EDGE_KINDS: readonly string[] = [
  ...['rational', 'mexican-hat', 'morlet', 'dog', 'meyer', 'shannon'],
]

/**
 * Fills in defaults and checks them.
 * @throws ERR_ARGUMENT naming the option, what it should be and what came
 */
export function karatSetting(options: KaratOptions = {}): KaratSetting {
  const where = 'karat attention'
  requireOptions(where, options, KNOWN)
  for (const [name, known] of Object.entries(CHOICES)) {
    const value = options[name as keyof typeof CHOICES]
    if (value !== undefined && !(known as readonly string[]).includes(value)) {
      throw argumentError(where, name, `one of ${known.join(', ')}`, value)
    }
  }
  for (const name of ['edgeScales', 'latentBias', 'reassociate'] as const) {
    const value = options[name]
    if (value !== undefined && typeof value !== 'boolean') {
      throw argumentError(where, name, 'true or false', value)
    }
  }
  const { G = 3, r = 12, order = 'w-phi', projection = 'none', base = 'zero' } = options
  requireCount('G', G)
  requireCount('r', r)
  const { edgeScales = false, latentBias = false } = options
  const basis = resolveBasis(options.basis ?? 'fourier', G)
  if (!isSeparable(basis) && (base !== 'zero' || edgeScales)) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `${where}: the '${basis.kind}' basis has no base function and no edge scales; ` +
        `they go with ${SEPARABLE.join(', ')}.`,
    )
  }
  if (projection === 'latent' && order === 'full') {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `${where}: order 'full' has no latent numbers to project; use projection 'output'.`,
    )
  }
  if (projection === 'output' && options.reassociate === true) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `${where}: projection 'output' needs the rows of weights, so the product with the values ` +
        'cannot be reassociated; leave reassociate out or use another projection.',
    )
  }
  return {
    ...{ G, r, basis, base, edgeScales, latentBias, order, projection },
    share: options.share ?? 'block',
    init: options.init ?? 'variance',
    reassociate: options.reassociate ?? projection !== 'output',
  }
}

function requireCount(name: 'G' | 'r', value: unknown): void {
  if (!Number.isSafeInteger(value) || (value as number) < 1) {
    throw argumentError('karat attention', name, 'a positive integer', value)
  }
}

function resolveBasis(choice: KaratBasisChoice, G: number): AnyBasis {
  const kind: unknown = typeof choice === 'object' && choice !== null ? choice.kind : choice
  if (typeof kind !== 'string' || ![...SEPARABLE, ...EDGE_KINDS].includes(kind)) {
    const known = [...SEPARABLE, ...EDGE_KINDS].join(', ')
    throw argumentError('karat attention', 'basis', `one of ${known}, or an object with kind`, kind)
  }
  const basis = (typeof choice === 'object' ? choice : namedBasis(kind, G)) as AnyBasis
  // Both check the numbers of the basis.
  if (isSeparable(basis)) karatFeatureCount(basis)
  else edgeParameters(basis)
  return basis
}

/** φ = Σ_j c_j f_j(x): the same features for all edges. */
export function isSeparable(basis: AnyBasis): basis is KaratBasis {
  return SEPARABLE.includes(basis.kind)
}

/** Ranges are [-4, 4]: scores of a trained model at 64 dimensions seldom leave it. */
function namedBasis(kind: string, G: number): object {
  switch (kind) {
    case 'fourier':
      return { kind, harmonics: G }
    case 'chebyshev':
      return { kind, degree: G }
    case 'rbf':
      return { kind, centers: Math.max(G, 2), low: -4, high: 4 }
    case 'bspline':
      return { kind, order: 3, intervals: G, range: 4 }
    case 'rational':
      return { kind, numerator: 5, denominator: 4 }
    case 'morlet':
      return { kind, omega: 5 }
    default:
      return { kind }
  }
}
