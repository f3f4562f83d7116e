import type { OptimizerSpec as NativeOptimizerSpec, OptimizerSegments } from '../native.js'
import type { LayoutEntry, ParameterLayout } from '../nn/layout.js'
import { checkOption, isRate } from './check.js'

/**
 * Parameters that are trained otherwise than the rest. Where groups overlap, the later one wins in
 * what it says; what it leaves out stays as the earlier one has it.
 */
export interface ParameterGroup {
  /** A pattern (`*.bias`, `layers.0.*,!*.bias`) or names. */
  readonly params: string | readonly string[]
  /** Factor on the learning rate. Default 1. */
  readonly lrFactor?: number
  /** Replaces the optimiser's. */
  readonly weightDecay?: number
  /** Neither moves nor counts in the gradient's norm. Default false. */
  readonly frozen?: boolean
}

interface Common {
  /** Learning rate before the schedule's factor. Default 0.001. */
  readonly lr?: number
  /**
   * 'vectors': no weight decay on tensors of one dimension (biases, norms) and on class tokens and
   * positions (`cls_token`, `dist_token`, `pos_embed`), as recipes for transformers have it; groups
   * still win. Default 'none'.
   */
  readonly exemptFromDecay?: 'none' | 'vectors'
  readonly groups?: readonly ParameterGroup[]
}

/**
 * Gradient descent with momentum, as torch.optim.SGD: g' = g + decay θ; the first m is g', then
 * m = momentum m + (1 - dampening) g'; θ -= lr m, or lr (g' + momentum m) with Nesterov.
 */
export interface SgdSpec extends Common {
  readonly kind: 'sgd'
  /** Default 0. */
  readonly momentum?: number
  /** Default 0. */
  readonly dampening?: number
  /** Default false; needs momentum and no dampening. */
  readonly nesterov?: boolean
  /** L2: added to the gradient. Default 0. */
  readonly weightDecay?: number
}

/**
 * Adam (Kingma & Ba 2015) and AdamW (Loshchilov & Hutter 2019), as torch.optim: with the averages
 * m of g and v of g² and t steps made, θ -= lr / (1 - β1ᵗ) · m / (√v / √(1 - β2ᵗ) + ε).
 */
export interface AdamSpec extends Common {
  readonly kind: 'adam' | 'adamw'
  /** Default [0.9, 0.999]. */
  readonly betas?: readonly [beta1: number, beta2: number]
  /** Default 1e-8. */
  readonly epsilon?: number
  /** adam: L2, added to the gradient, default 0; adamw: θ *= 1 - lr decay first, default 0.01. */
  readonly weightDecay?: number
}

/** Full-batch gradient descent, θ -= lr ∇L(θ): one step an epoch, the whole set in file order. */
export interface GradientDescentSpec extends Common {
  readonly kind: 'gd'
  /** L2: added to the gradient. Default 0. */
  readonly weightDecay?: number
}

export type OptimizerSpec = SgdSpec | AdamSpec | GradientDescentSpec

/** An optimiser with its defaults filled in, laid over the parameter tensors. */
export interface ResolvedOptimizer {
  readonly kind: OptimizerSpec['kind']
  readonly lr: number
  readonly native: NativeOptimizerSpec
  readonly segments: OptimizerSegments
  /** Vectors of state beside θ: 0, 1 or 2. */
  readonly moments: number
  /** Every step takes the whole set. */
  readonly fullBatch: boolean
  /** Per parameter tensor: it moves. */
  readonly trained: readonly boolean[]
}

const KINDS = ['sgd', 'adam', 'adamw', 'gd']

const check = (condition: boolean, what: string, got: unknown): void =>
  checkOption(condition, 'The optimizer', what, got)

/**
 * Fills in PyTorch's defaults and checks every number.
 *
 * @param clipNorm gradients of a larger norm are scaled down to it; Infinity: off
 * @throws ERR_ARGUMENT naming what is out of range or the pattern that matches nothing
 */
export function resolveOptimizer(
  spec: OptimizerSpec,
  layout: ParameterLayout,
  clipNorm = Number.POSITIVE_INFINITY,
): ResolvedOptimizer {
  check(KINDS.includes(spec.kind), `kind to be one of ${KINDS.join(', ')}`, spec.kind)
  check(clipNorm > 0, 'clipNorm > 0', clipNorm)
  const { lr = 1e-3, weightDecay = spec.kind === 'adamw' ? 0.01 : 0 } = spec
  check(isRate(lr), 'lr >= 0', lr)
  check(isRate(weightDecay), 'weightDecay >= 0', weightDecay)
  const { momentum = 0, dampening = 0, nesterov = false } = spec.kind === 'sgd' ? spec : {}
  check(isRate(momentum), 'momentum >= 0', momentum)
  check(Number.isFinite(dampening), 'dampening to be finite', dampening)
  check(
    !nesterov || (momentum > 0 && dampening === 0),
    'momentum > 0 and dampening 0 with nesterov',
    `momentum ${momentum} and dampening ${dampening}`,
  )
  const adam = spec.kind === 'adam' || spec.kind === 'adamw' ? spec : null
  const [beta1, beta2] = adam?.betas ?? [0.9, 0.999]
  for (const beta of [beta1, beta2]) check(beta >= 0 && beta < 1, '0 <= beta < 1', beta)
  const epsilon = adam?.epsilon ?? 1e-8
  check(isRate(epsilon), 'epsilon >= 0', epsilon)
  const { exemptFromDecay: exempt = 'none' } = spec
  check(exempt === 'none' || exempt === 'vectors', "exemptFromDecay 'none' or 'vectors'", exempt)
  const decay = layout.entries.map((entry) =>
    exempt === 'vectors' && isVectorLike(entry) ? 0 : weightDecay,
  )
  const segments = layGroups(spec.groups ?? [], layout, decay)
  return {
    kind: spec.kind,
    lr,
    native: {
      kind: spec.kind === 'gd' ? 'sgd' : spec.kind,
      momentum,
      dampening,
      nesterov,
      beta1,
      beta2,
      epsilon,
      clipNorm,
    },
    segments,
    moments: adam ? 2 : momentum > 0 ? 1 : 0,
    fullBatch: spec.kind === 'gd',
    trained: Array.from(segments.frozen, (frozen) => frozen === 0),
  }
}

const TOKENS = /(^|\.)(cls_token|dist_token|pos_embed)$/

function isVectorLike({ name, shape }: LayoutEntry): boolean {
  return shape.length <= 1 || TOKENS.test(name)
}

function layGroups(
  groups: readonly ParameterGroup[],
  layout: ParameterLayout,
  weightDecay: readonly number[],
): OptimizerSegments {
  const count = layout.entries.length
  const learningRateFactor = new Float64Array(count).fill(1)
  const decay = Float64Array.from(weightDecay)
  const frozen = new Uint8Array(count)
  for (const group of groups) {
    const { lrFactor, weightDecay: own, frozen: still } = group
    check(isRate(lrFactor ?? 1), "a group's lrFactor >= 0", lrFactor)
    check(isRate(own ?? 0), "a group's weightDecay >= 0", own)
    const names = typeof group.params === 'string' ? layout.match(group.params) : group.params
    for (const name of names) {
      const at = layout.entries.indexOf(layout.entry(name))
      if (lrFactor !== undefined) learningRateFactor[at] = lrFactor
      if (own !== undefined) decay[at] = own
      if (still !== undefined) frozen[at] = still ? 1 : 0
    }
  }
  check(frozen.includes(0), 'at least one parameter that is not frozen', 'none')
  return { ...layout.segments(), learningRateFactor, decay, frozen }
}
