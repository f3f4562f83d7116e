import { argumentError } from '../../arguments.js'
import { LosscapeError } from '../../errors.js'
import * as ops from '../../ops/index.js'
import { karatEdges } from '../../ops/karat_edges.js'
import { karatLatent } from '../../ops/karat_latent.js'
import { scoreScale } from '../../ops/score-scale.js'
import { simplexProject } from '../../ops/simplex.js'
import { sameShape } from '../../program/shape.js'
import { requireTensors, type Tensor } from '../../program/tensor.js'
import type { TensorMap } from '../model.js'
import { isSeparable, type KaratOptions, type KaratSetting, karatSetting } from './options.js'
import { edgeParts, karatParameters } from './parameters.js'

/** How scores are made, for softmax and learnable attention alike. */
export interface ScoreOptions {
  /** s in x = s q·k. Default 1/√D. */
  readonly scale?: number
  /** [B, N], u8 or i32: tokens with 0 take no part. */
  readonly keyMask?: Tensor
  /** [B or 1, H or 1, N, N], added to the scores. */
  readonly bias?: Tensor
  /** Axes of q, k, v and o. Default 'bhnd'. */
  readonly layout?: 'bhnd' | 'bnhd'
}

/**
 * Kolmogorov-Arnold attention of h heads that are alike: o = σ̂(s q kᵀ) v with learnable functions
 * instead of softmax; the orders and functions are those of {@link KaratOptions}, `parameters` the
 * tensors of `karatParameters` by name. In order 'w-phi'
 *
 *     Z = c0 + Σ_features f(s q kᵀ) C      [B, H, N, r], fused: no N x N tensor
 *     o = Z (Wᵀ v)
 *
 * N x N weights are formed only for projection 'output', `reassociate: false`, and functions that
 * are not sums of features (rational, wavelets) in other orders than 'w-phi'.
 *
 * @param q [B, H, N, D], k, v alike ([B, N, H, D] with layout 'bnhd')
 * @throws ERR_SHAPE for a number of tokens, heads or latents other than the parameters have;
 * ERR_ARGUMENT for options that do not go together or a missing tensor
 *
 * Source: arXiv 2503.10632, equations of section 4 (v3).
 */
export function karatAttention(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  parameters: TensorMap,
  options: Omit<KaratOptions, 'heads'> & ScoreOptions = {},
): Tensor {
  const { rest, scores } = splitOptions('karatAttention()', options)
  const run = new KaratRun(karatSetting(rest), parameters, q, k, scores)
  run.requireValues(v)
  return run.fromHeads(run.apply(run.withoutMasked(run.toHeads(v))))
}

/**
 * The weights σ̂ [B, H, N, N] of {@link karatAttention}, for analysis: o = σ̂ v. They are signed and
 * their rows have no fixed sum.
 * @throws as karatAttention()
 */
export function karatWeights(
  q: Tensor,
  k: Tensor,
  parameters: TensorMap,
  options: Omit<KaratOptions, 'heads'> & ScoreOptions = {},
): Tensor {
  const { rest, scores } = splitOptions('karatWeights()', options)
  const run = new KaratRun(karatSetting(rest), parameters, q, k, scores)
  return run.keepKeys(run.weights())
}

/** One evaluation: operands in the layout of the fused operation, parameters checked. */
class KaratRun {
  private readonly q: Tensor
  private readonly k: Tensor
  private readonly scale: number
  private readonly keyMask?: Tensor
  private readonly layout: 'bhnd' | 'bnhd'
  private readonly batch: number
  private readonly heads: number
  private readonly tokens: number
  private readonly latents: number

  constructor(
    private readonly setting: KaratSetting,
    private readonly p: TensorMap,
    q: Tensor,
    k: Tensor,
    { scale, keyMask, bias, layout = 'bhnd' }: ScoreOptions,
  ) {
    this.layout = layout
    requireTensors('karat attention', { q, k })
    if (typeof p !== 'object' || p === null) {
      throw argumentError('karat attention', 'parameters', 'tensors by their names', p)
    }
    const sound = q.rank === 4 && sameShape(q.shape, k.shape)
    if (!sound) {
      throw new LosscapeError(
        'ERR_SHAPE',
        `karat attention expected q and k of one shape [B, H, N, D], got [${q.shape}] and [${k.shape}].`,
      )
    }
    this.batch = q.shape[0]
    this.heads = q.shape[layout === 'bhnd' ? 1 : 2]
    this.tokens = q.shape[layout === 'bhnd' ? 2 : 1]
    this.latents = setting.order === 'full' ? this.tokens : setting.r
    this.scale = scoreScale('karat attention', q, scale)
    if (this.scale === 0) {
      throw argumentError('karat attention', 'scale', 'a finite number other than 0', scale)
    }
    this.keyMask = keyMask
    this.q = q
    this.k = k
    this.requireParameters()
    if (bias) [this.q, this.k] = this.withBias(bias)
  }

  private requireParameters(): void {
    const { heads, tokens } = this
    for (const { name, shape } of karatParameters(this.setting, { heads, tokens })) {
      const got = this.p[name]
      if (got !== undefined) requireTensors('karat attention', { [name]: got })
      else {
        throw new LosscapeError(
          'ERR_ARGUMENT',
          `karat attention needs the parameter '${name}' [${shape}]; it got ${
            Object.keys(this.p).join(', ') || 'none'
          }.`,
        )
      }
      if (!sameShape(got.shape, shape)) {
        throw new LosscapeError(
          'ERR_SHAPE',
          `karat attention on ${heads} heads and ${tokens} tokens needs '${name}' [${shape}], got ` +
            `[${got.shape}]: the number of tokens is a dimension of the parameters.`,
        )
      }
    }
  }

  requireValues(v: Tensor): void {
    requireTensors('karat attention', { v })
    if (v.rank === 4 && sameShape(v.shape.slice(0, 3), this.q.shape.slice(0, 3))) return
    throw new LosscapeError(
      'ERR_SHAPE',
      `karat attention expected values of the shape [${this.q.shape.slice(0, 3)}, Dv], got [${v.shape}].`,
    )
  }

  toHeads(x: Tensor): Tensor {
    return this.layout === 'bhnd' ? x : ops.transpose(x, [0, 2, 1, 3])
  }

  fromHeads(x: Tensor): Tensor {
    return this.toHeads(x)
  }

  /** Values, or keys, of masked tokens become 0, in [B, H, N, D]. */
  withoutMasked(x: Tensor): Tensor {
    return this.keyMask ? ops.mul(x, this.mask([this.batch, 1, this.tokens, 1])) : x
  }

  /** Weights [B, H, N, N] of masked tokens become 0. */
  keepKeys(weights: Tensor): Tensor {
    return this.keyMask ? ops.mul(weights, this.mask([this.batch, 1, 1, this.tokens])) : weights
  }

  private mask(shape: readonly number[]): Tensor {
    const mask = this.keyMask as Tensor
    return ops.reshape(ops.cast(ops.ne(mask, 0), this.q.dtype), shape)
  }

  /**
   * s q·k + bias as the product of longer vectors: row n of q gains the n-th unit vector, key m
   * the column bias[:, m] / s.
   */
  private withBias(bias: Tensor): [Tensor, Tensor] {
    const { batch, heads, tokens } = this
    const full = ops.mul(ops.broadcastTo(bias, [batch, heads, tokens, tokens]), 1 / this.scale)
    const perm = this.layout === 'bhnd' ? [0, 1, 3, 2] : [0, 3, 1, 2]
    const units = unitRows(tokens, this.q.dtype)
    const rows = ops.reshape(units, this.layout === 'bhnd' ? [tokens, tokens] : [tokens, 1, tokens])
    const shape = [...this.q.shape.slice(0, 3), tokens]
    return [
      ops.concat([this.q, ops.broadcastTo(rows, shape)], 3),
      ops.concat([this.k, ops.transpose(full, perm)], 3),
    ]
  }

  /** σ̂ v for values [B, H, N, Dv]. */
  apply(v: Tensor): Tensor {
    const { order, reassociate, basis } = this.setting
    if (!reassociate || (order !== 'w-phi' && !isSeparable(basis)))
      return ops.matmul(this.weights(), v)
    if (order === 'w-phi') {
      return ops.matmul(this.latent(), ops.matmul(this.p.weight, v, { transA: true }))
    }
    if (order === 'full') {
      const o = this.edges(this.q, this.k, this.mixed(v, ''))
      return this.p.c0 ? ops.add(o, ops.matmul(ops.reshape(this.p.c0, [this.heads, 1, -1]), v)) : o
    }
    return this.spread(this.latent(), this.mixed(v, order === 'phi-phi' ? '2' : ''))
  }

  /** σ̂ [B, H, N, N]. */
  weights(): Tensor {
    const { order, projection } = this.setting
    const weights = this.rawWeights(order)
    return projection === 'output' ? simplexProject(weights) : weights
  }

  private rawWeights(order: KaratSetting['order']): Tensor {
    if (order === 'w-phi') return ops.matmul(this.latent(), this.p.weight, { transB: true })
    if (order === 'full') return this.plusBias(this.edges(this.q, this.k, this.functions('')))
    return this.spread(this.latent(), this.functions(order === 'phi-phi' ? '2' : '', true))
  }

  /** Z of orders 'w-phi' and 'phi-phi', Y of 'phi-w': [B, H, N, r], projected where asked. */
  private latent(): Tensor {
    const { order, projection } = this.setting
    const numbers =
      order === 'phi-w' ? this.mixedScores() : this.edges(this.q, this.k, this.functions(''))
    const shifted = this.plusBias(numbers)
    return projection === 'latent' ? simplexProject(shifted) : shifted
  }

  private plusBias(z: Tensor): Tensor {
    const { c0 } = this.p
    return c0 ? ops.add(z, ops.reshape(c0, [this.heads, 1, this.latents])) : z
  }

  /** Y = s Q (Wᵀ K)ᵀ: linear in N. */
  private mixedScores(): Tensor {
    const keys = this.withoutMasked(this.toHeads(this.k))
    const mixed = ops.matmul(this.p.weight, keys, { transA: true })
    return ops.mul(ops.matmul(this.toHeads(this.q), mixed, { transB: true }), this.scale)
  }

  /** Functions of scores s q·k, summed over the keys. */
  private edges(q: Tensor, k: Tensor, coefficients: Tensor): Tensor {
    const { basis, base } = this.setting
    const { scale, keyMask, layout } = this
    return isSeparable(basis)
      ? karatLatent(q, k, coefficients, { basis, base, scale, keyMask, layout })
      : karatEdges(q, k, coefficients, { basis, scale, keyMask, layout })
  }

  /** Functions of latent numbers y [B, H, N, r] themselves: scores with the r unit vectors. */
  private spread(y: Tensor, coefficients: Tensor): Tensor {
    const { basis, base } = this.setting
    const { batch, heads, latents } = this
    const units = ops.broadcastTo(unitRows(latents, y.dtype), [batch, heads, latents, latents])
    return isSeparable(basis)
      ? karatLatent(y, units, coefficients, { basis, base, scale: 1 })
      : karatEdges(y, units, coefficients, { basis, scale: 1 })
  }

  /** Coefficients of one layer as [1, H, J or P, inputs, outputs]. */
  private functions(suffix: '' | '2', fromLatents = false): Tensor {
    const { basis } = this.setting
    if (!isSeparable(basis)) {
      const parts = edgeParts(basis).map(({ name }) => this.p[name + suffix])
      const all = ops.concat(parts, 1)
      return ops.reshape(all, [1, ...all.shape])
    }
    const c = ops.transpose(this.features(suffix), fromLatents ? [0, 3, 1, 2] : [0, 3, 2, 1])
    return ops.reshape(c, [1, ...c.shape])
  }

  /** Coefficients of one layer as stored, ws folded in, base function last: [H, r, N, J]. */
  private features(suffix: '' | '2'): Tensor {
    return ops.concat(this.featureParts(suffix), 3)
  }

  /** The same in parts, [H, r, N, ..] each: a and b, or c, and the base function. */
  private featureParts(suffix: '' | '2'): Tensor[] {
    const of = (name: string): Tensor | undefined => this.p[name + suffix]
    const { heads, latents, tokens } = this
    const edge = [heads, latents, tokens, 1]
    const stored = ['a', 'b', 'c'].map(of).filter((t) => t !== undefined)
    const ws = of('ws')
    const parts = ws ? stored.map((t) => ops.mul(t, ops.reshape(ws, edge))) : stored
    if (this.setting.base === 'zero') return parts
    const wb = of('wb') ?? ops.constant(1, { dtype: stored[0].dtype, shape: edge })
    return [...parts, ops.reshape(wb, edge)]
  }

  /**
   * Cᵀ V, coefficients of functions that lead to the values: [B, H, J, inputs, Dv]. All samples are
   * columns of one product, so that its gradient is summed over them at once.
   */
  private mixed(v: Tensor, suffix: '' | '2'): Tensor {
    const { batch, heads, tokens } = this
    const width = v.shape[3]
    const columns = ops.reshape(ops.transpose(v, [1, 2, 0, 3]), [heads, tokens, batch * width])
    if (this.setting.order !== 'full') {
      const c = this.features(suffix)
      const [, latents, , J] = c.shape
      const rows = ops.reshape(ops.transpose(c, [0, 3, 1, 2]), [heads, J * latents, tokens])
      const m = ops.reshape(ops.matmul(rows, columns), [heads, J, latents, batch, width])
      return ops.transpose(m, [3, 0, 1, 2, 4])
    }
    // [H, output, input, J] as stored is [H, output, input J]: nothing of that size is copied.
    const parts = this.featureParts(suffix).map((c) => {
      const J = c.shape[3]
      const rows = ops.reshape(c, [heads, tokens, tokens * J])
      const product = ops.matmul(rows, columns, { transA: true })
      const m = ops.reshape(product, [heads, tokens, J, batch, width])
      return ops.transpose(m, [3, 0, 2, 1, 4])
    })
    return ops.concat(parts, 2)
  }
}

/** Options of the functions and those of the scores, checked as far as types go. */
function splitOptions(where: string, options: Omit<KaratOptions, 'heads'> & ScoreOptions) {
  if (typeof options !== 'object' || options === null) {
    throw argumentError(where, 'options', 'an object', options)
  }
  const { heads } = options as KaratOptions
  if (heads !== undefined) {
    throw argumentError(where, 'heads', 'nothing, as its heads are alike', heads)
  }
  const { scale, keyMask, bias, layout, ...rest } = options
  const scores = { scale, keyMask, bias, layout }
  requireScoreOptions(where, scores)
  return { rest, scores }
}

/** @throws ERR_ARGUMENT */
export function requireScoreOptions(where: string, options: ScoreOptions): void {
  if (typeof options !== 'object' || options === null) {
    throw argumentError(where, 'options', 'an object', options)
  }
  const { scale, keyMask, bias, layout = 'bhnd' } = options
  if (scale !== undefined && !Number.isFinite(scale)) {
    throw argumentError(where, 'scale', 'a finite number', scale)
  }
  if (keyMask !== undefined) requireTensors(where, { keyMask })
  if (bias !== undefined) requireTensors(where, { bias })
  if (layout !== 'bhnd' && layout !== 'bnhd') {
    throw argumentError(where, 'layout', "'bhnd' or 'bnhd'", layout)
  }
}

/** The n x n identity. */
function unitRows(n: number, dtype: Tensor['dtype']): Tensor {
  return ops.cast(ops.eq(ops.iota([n, n], 0), ops.iota([n, n], 1)), dtype)
}
