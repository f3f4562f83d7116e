import { gradientProgram } from '../../lib/curvature/programs.js'
import type { CurvatureKind } from '../../lib/curvature/setting.js'
import { normalizeBatch } from '../../lib/nn/batch.js'
import { resolveLoss } from '../../lib/nn/loss.js'
import { evaluate, trace, vjpProgram } from '../../lib/program/index.js'
import { normals, stream, uniforms } from '../../lib/random/index.js'
import type { ModelCase } from './cases.js'

/** One sample in float64: outputs [C], their Jacobian [C, n], and the gradient of its loss [n]. */
export interface DenseSample {
  readonly z: Float64Array
  readonly jacobian: readonly Float64Array[]
  readonly gradient: Float64Array
}

const join = (blocks: readonly Float64Array[]): Float64Array =>
  Float64Array.from(blocks.flatMap((b) => Array.from(b)))

/** Sample by sample, one backward pass per output. */
export function denseSamples(test: ModelCase): DenseSample[] {
  const { model, set, params } = test
  const theta = model.layout.entries.map((e) => params.subarray(e.offset, e.offset + e.size))
  const types = model.layout.entries.map((e) => e.shape)
  const network = trace(
    (...args) =>
      model.apply(args.slice(0, -1), normalizeBatch(args[args.length - 1], set, model), {
        training: false,
        key: null,
      }),
    [...types, [1, ...set.shape]],
  )
  const wrt = [...types.map(() => true), false]
  const pullback = vjpProgram(network, wrt)
  const gradient = gradientProgram({
    model,
    loss: resolveLoss(test.loss),
    set,
    batch: 1,
    selected: types.map(() => true),
  })
  const width = set.inputs.length / set.size
  const wide = set.targets.length / set.size
  return Array.from({ length: set.size }, (_, i) => {
    const x = Float64Array.from(set.inputs.subarray(i * width, (i + 1) * width))
    const y = Float64Array.from(set.targets.subarray(i * wide, (i + 1) * wide))
    const [z] = evaluate(network, [...theta, x])
    const jacobian = Array.from(z, (_, c) => {
      const unit = new Float64Array(z.length)
      unit[c] = 1
      return join(evaluate(pullback, [...theta, x, unit]).slice(1))
    })
    const g = evaluate(gradient, [...theta, x, y, new Float64Array([1])]).slice(1)
    return { z, jacobian, gradient: join(g) }
  })
}

export function softmax(z: Float64Array): Float64Array {
  const top = Math.max(...z)
  const e = z.map((x) => Math.exp(x - top))
  const total = e.reduce((s, x) => s + x, 0)
  return e.map((x) => x / total)
}

const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x))

/** Jᵀ u. */
export function pull({ jacobian }: DenseSample, u: ArrayLike<number>): Float64Array {
  const out = new Float64Array(jacobian[0].length)
  for (const [c, row] of jacobian.entries()) {
    for (let k = 0; k < out.length; k++) out[k] += u[c] * row[k]
  }
  return out
}

/** The loss's weight of a sample: Σ_c w_c q_c. */
function weightOf({ loss, set }: ModelCase, i: number): number {
  if (typeof loss !== 'object' || !('kind' in loss) || !loss.classWeights) return 1
  const { smoothing = 0, classWeights } = loss
  const mean = classWeights.reduce((s, w) => s + w, 0) / classWeights.length
  return (1 - smoothing) * classWeights[set.targets[i]] + smoothing * mean
}

/** Q_i = I_i as vectors q with Σ q qᵀ, from the table of `fisher`. */
function informationRoots(test: ModelCase, sample: DenseSample, i: number): Float64Array[] {
  const { z } = sample
  const C = z.length
  const unit = (c: number, x: number) => new Float64Array(C).fill(x, c, c + 1)
  switch (resolveLoss(test.loss).name) {
    case 'cross-entropy': {
      const p = softmax(z)
      const w = weightOf(test, i)
      return Array.from(p, (pc, c) => p.map((pk, k) => Math.sqrt(w * pc) * (Number(k === c) - pk)))
    }
    case 'mse':
      return Array.from(z, (_, c) => unit(c, Math.sqrt(2 / C)))
    case 'half-squared-error':
      return Array.from(z, (_, c) => unit(c, 1))
    default:
      return [unit(0, Math.sqrt(sigmoid(z[0]) * (1 - sigmoid(z[0]))))]
  }
}

/** Gradients in the outputs at drawn targets, by the documented numbers. */
export function drawnResidual(
  test: ModelCase,
  sample: DenseSample,
  i: number,
  s: number,
  seed: number,
): Float64Array {
  const { z } = sample
  const C = z.length
  const at = stream('fisher', s)
  const name = resolveLoss(test.loss).name
  if (name === 'mse' || name === 'half-squared-error') {
    const scale = name === 'mse' ? Math.sqrt(2 / C) : 1
    return normals(seed, at, i * C, C).map((e) => -scale * e)
  }
  const [u] = uniforms(seed, at, i, 1)
  if (C === 1) return Float64Array.of(sigmoid(z[0]) - Number(u < sigmoid(z[0])))
  const p = softmax(z)
  let label = 0
  for (let sum = p[0]; label < C - 1 && sum < u; sum += p[++label]);
  const root = Math.sqrt(weightOf(test, i))
  return p.map((pc, c) => root * (pc - Number(c === label)))
}

/** The mean matrix of a kind from dense Jacobians, row-major n x n. */
export function denseOracle(
  kind: Exclude<CurvatureKind, 'hessian' | 'remainder'>,
  test: ModelCase,
  options: { draws?: number; seed?: number; samples?: readonly number[] } = {},
): Float64Array {
  const { draws = 1, seed = 0 } = options
  const all = denseSamples(test)
  const chosen = options.samples ?? all.map((_, i) => i)
  const n = test.model.size
  const mean = new Float64Array(n)
  for (const i of chosen) {
    for (let k = 0; k < n; k++) mean[k] += all[i].gradient[k] / chosen.length
  }
  const matrix = new Float64Array(n * n)
  const add = (g: Float64Array, scale: number) => {
    for (let a = 0; a < n; a++) {
      for (let b = 0; b < n; b++) matrix[a * n + b] += (scale * g[a] * g[b]) / chosen.length
    }
  }
  for (const i of chosen) {
    const sample = all[i]
    switch (kind) {
      case 'empirical-fisher':
        add(sample.gradient, 1)
        break
      case 'gradient-covariance':
        add(
          sample.gradient.map((g, k) => g - mean[k]),
          1,
        )
        break
      case 'fisher-monte-carlo':
        for (let s = 0; s < draws; s++) {
          add(pull(sample, drawnResidual(test, sample, i, s, seed)), 1 / draws)
        }
        break
      default:
        for (const q of informationRoots(test, sample, i)) add(pull(sample, q), 1)
    }
  }
  return matrix
}
