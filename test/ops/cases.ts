import * as ops from '../../lib/ops/index.js'
import type { Tensor } from '../../lib/program/tensor.js'
import type { TensorType } from '../../lib/program/types.js'
import { CHANNEL_NORM_CASES } from './channel-norm-cases.js'
import { CONVOLUTION_CASES } from './convolution-cases.js'

/** One way to use an operation; run on every device against the float64 reference. */
export interface OperationCase {
  readonly name: string
  readonly inputs: readonly TensorType[]
  readonly f: (...args: Tensor[]) => Tensor | readonly Tensor[]
  /** Floating-point inputs are drawn from this interval (default -2 to 2). */
  readonly domain?: readonly [number, number]
  /** Integer inputs are drawn from [0, this). */
  readonly integers?: number
  /** Not differentiated (integer results), or only almost everywhere: no finite differences. */
  readonly smooth?: false
  /** Highest order of derivative that exists. */
  readonly order?: 1 | 2
}

const f32 = (...shape: number[]): TensorType => ({ dtype: 'f32', shape })
const i32 = (...shape: number[]): TensorType => ({ dtype: 'i32', shape })

function unary(
  name: string,
  f: (a: Tensor) => Tensor,
  options: Partial<OperationCase> = {},
): OperationCase {
  return { name, inputs: [f32(3, 5)], f, ...options }
}

function binary(
  name: string,
  f: (a: Tensor, b: Tensor) => Tensor,
  options: Partial<OperationCase> = {},
): OperationCase {
  return { name, inputs: [f32(3, 5), f32(3, 5)], f, ...options }
}

export const OPERATION_CASES: readonly OperationCase[] = [
  unary('neg', ops.neg),
  unary('abs', ops.abs),
  unary('sign', ops.sign, { smooth: false }),
  unary('exp', ops.exp),
  unary('expm1', ops.expm1),
  unary('log', ops.log, { domain: [0.3, 4] }),
  unary('log1p', ops.log1p, { domain: [-0.6, 4] }),
  unary('sqrt', ops.sqrt, { domain: [0.3, 4] }),
  unary('rsqrt', ops.rsqrt, { domain: [0.3, 4] }),
  unary('sin', ops.sin),
  unary('cos', ops.cos),
  unary('tanh', ops.tanh),
  unary('erf', ops.erf),
  unary('sigmoid', ops.sigmoid),
  unary('softplus', ops.softplus),
  unary('relu', ops.relu),
  unary('floor', ops.floor, { smooth: false }),
  unary('round', ops.round, { smooth: false }),
  unary('isfinite', ops.isFinite, { smooth: false }),
  unary('gelu', (a) => ops.gelu(a)),
  unary('gelu-tanh', (a) => ops.gelu(a, 'tanh')),
  unary('silu', ops.silu),
  unary('leaky-relu', (a) => ops.leakyRelu(a)),
  unary('clamp', (a) => ops.clamp(a, -0.7, 0.9)),
  unary('cast-i32', (a) => ops.cast(a, 'i32'), { smooth: false }),
  unary('cast-u8', (a) => ops.cast(a, 'u8'), { smooth: false, domain: [-10, 300] }),
  binary('add', ops.add),
  binary('sub', ops.sub),
  binary('mul', ops.mul),
  binary('div', ops.div, { domain: [0.4, 2] }),
  binary('pow', ops.pow, { domain: [0.4, 2] }),
  binary('max', ops.maximum),
  binary('min', ops.minimum),
  binary(
    'comparisons',
    (a, b) =>
      [ops.eq, ops.ne, ops.lt, ops.le, ops.gt, ops.ge]
        .map((compare, i) => ops.mul(ops.cast(compare(a, b), 'f32'), 2 ** i))
        .reduce((s, t) => ops.add(s, t)),
    { smooth: false },
  ),
  binary(
    'logic',
    (a, b) =>
      ops.cast(
        ops.logicalOr(ops.logicalAnd(ops.gt(a, 0), ops.gt(b, 0)), ops.logicalNot(ops.gt(a, b))),
        'f32',
      ),
    { smooth: false },
  ),
  binary('where', (a, b) => ops.where(ops.gt(a, b), ops.mul(a, b), ops.sub(a, b))),
  {
    name: 'broadcast-rows',
    inputs: [f32(4, 3), f32(3)],
    f: (a, b) => ops.mul(a, ops.tanh(b)),
  },
  {
    name: 'broadcast-columns',
    inputs: [f32(4, 3), f32(4, 1)],
    f: (a, b) => ops.mul(ops.exp(a), b),
  },
  {
    name: 'broadcast-middle',
    inputs: [f32(2, 3, 4), f32(2, 1, 4)],
    f: (a, b) => ops.mul(a, ops.sin(b)),
  },
  unary('reshape', (a) => ops.mul(ops.reshape(a, [5, 3]), ops.reshape(a, [5, 3]))),
  unary('transpose', (a) => ops.exp(ops.transpose(a))),
  {
    name: 'transpose-3',
    inputs: [f32(2, 3, 4)],
    f: (a) => ops.mul(ops.transpose(a, [2, 0, 1]), ops.transpose(ops.sin(a), [2, 0, 1])),
  },
  unary('slice', (a) => ops.exp(ops.slice(a, [1, 2], [2, 3]))),
  unary('pad', (a) => ops.exp(ops.pad(a, [1, 0], [2, 3], 0.5))),
  binary('concat', (a, b) => ops.tanh(ops.concat([a, b, ops.mul(a, b)], 1))),
  unary('sum-0', (a) => ops.exp(ops.sum(a, [0]))),
  unary('sum-1', (a) => ops.sin(ops.sum(ops.mul(a, a), [1]))),
  unary('sum-all', (a) => ops.exp(ops.mul(ops.sum(a), 0.1))),
  {
    name: 'sum-middle',
    inputs: [f32(2, 3, 4)],
    f: (a) => ops.sum(ops.mul(a, a), [0, 2]),
  },
  unary('mean', (a) => ops.mul(ops.mean(a, [1], true), a)),
  unary('reduce-max', (a) => ops.mul(ops.max(a, [1]), ops.max(a, [1]))),
  unary('reduce-min', (a) => ops.mul(ops.min(a, [0]), ops.min(a, [0]))),
  unary('argmax', (a) => ops.argmax(a, 1), { smooth: false }),
  unary('argmax-0', (a) => ops.argmax(a, 0), { smooth: false }),
  unary('logsumexp', (a) => ops.logsumexp(a)),
  unary('softmax', (a) => ops.softmax(a)),
  unary('softmax-0', (a) => ops.mul(ops.softmax(a, 0), a)),
  unary('log-softmax', (a) => ops.logSoftmax(a)),
  unary('simplex', (a) => ops.mul(ops.simplexProject(a), a)),
  {
    name: 'simplex-3',
    inputs: [f32(2, 3, 7)],
    domain: [-0.4, 0.4],
    f: (a) => ops.exp(ops.simplexProject(ops.mul(a, a))),
  },
  {
    name: 'max-pool',
    inputs: [f32(2, 3, 5, 4)],
    f: (x) => ops.exp(ops.maxPool(x, { kernel: 3, stride: 2, padding: 1 })),
  },
  {
    name: 'max-pool-nhwc',
    inputs: [f32(2, 6, 5, 3)],
    f: (x) =>
      ops.sin(
        ops.maxPool(x, { kernel: [3, 2], stride: 1, dilation: [2, 1], ceil: true, layout: 'nhwc' }),
      ),
  },
  {
    name: 'max-pool-1d',
    inputs: [f32(2, 2, 7)],
    f: (x) => ops.exp(ops.adaptiveMaxPool(ops.mul(x, 0.5), { output: 3 })),
  },
  {
    name: 'average-pool',
    inputs: [f32(2, 2, 5, 4)],
    f: (x) =>
      ops.exp(ops.averagePool(x, { kernel: 3, stride: 2, padding: 1, includePadding: false })),
  },
  {
    name: 'average-pool-nhwc',
    inputs: [f32(2, 5, 6, 3)],
    f: (x) => ops.sin(ops.averagePool(x, { kernel: 2, ceil: true, layout: 'nhwc' })),
  },
  {
    name: 'adaptive-average-pool',
    inputs: [f32(2, 5, 4, 3)],
    f: (x) =>
      ops.mul(
        ops.exp(ops.adaptiveAveragePool(x, { output: [3, 2], layout: 'nhwc' })),
        ops.adaptiveAveragePool(x, { output: 1, layout: 'nhwc' }),
      ),
  },
  {
    name: 'resize-bilinear',
    inputs: [f32(1, 2, 3, 5)],
    f: (x) => [
      ops.exp(ops.resize(x, { size: [7, 4] })),
      ops.sin(ops.resize(x, { size: [4, 9], alignCorners: true })),
    ],
  },
  {
    name: 'resize-nhwc',
    inputs: [f32(1, 4, 3, 2)],
    f: (x) =>
      ops.exp(
        ops.resize(ops.resize(x, { size: 6, layout: 'nhwc' }), {
          size: [2, 9],
          mode: 'nearest',
          layout: 'nhwc',
        }),
      ),
  },
  {
    name: 'weight-standardize',
    inputs: [f32(3, 2, 2), f32(2, 5), f32(2, 3, 1, 1)],
    f: (a, b, c) => ops.weightStandardize([a, b, c]),
  },
  {
    name: 'weight-standardize-gain',
    inputs: [f32(3, 2, 2), f32(2, 5), f32(3), f32(2)],
    f: (a, b, gain, shift) => {
      const [p] = ops.weightStandardize([a], { preset: 'nfnet', gain: [gain] })
      const [q] = ops.weightStandardize([b], { preset: 'paper', fanIn: true, shift: [shift] })
      return [ops.tanh(p), ops.mul(q, q)]
    },
  },
  {
    name: 'weight-standardize-parts',
    inputs: [f32(2, 5)],
    f: (a) => [
      ops.weightStandardize([a, ops.exp(a)], { scale: false, factor: 3 })[1],
      ops.weightStandardize([a, ops.mul(a, a)], { center: false, delta: 0 })[1],
    ],
  },
  {
    name: 'iota',
    inputs: [f32(3, 4)],
    f: (a) => ops.mul(a, ops.iota([3, 4], 1, 'f32')),
  },
  { name: 'matmul', inputs: [f32(3, 4), f32(4, 2)], f: (a, b) => ops.matmul(a, b) },
  {
    name: 'matmul-tn',
    inputs: [f32(4, 3), f32(4, 2)],
    f: (a, b) => ops.matmul(a, b, { transA: true }),
  },
  {
    name: 'matmul-nt',
    inputs: [f32(3, 4), f32(2, 4)],
    f: (a, b) => ops.matmul(a, b, { transB: true }),
  },
  {
    name: 'matmul-tt',
    inputs: [f32(4, 3), f32(2, 4)],
    f: (a, b) => ops.matmul(a, b, { transA: true, transB: true }),
  },
  {
    name: 'matmul-batch',
    inputs: [f32(2, 3, 4), f32(2, 4, 2)],
    f: (a, b) => ops.matmul(a, b),
  },
  {
    name: 'matmul-shared-b',
    inputs: [f32(2, 3, 4), f32(4, 2)],
    f: (a, b) => ops.matmul(a, b),
  },
  {
    name: 'matmul-shared-a',
    inputs: [f32(3, 4), f32(2, 4, 2)],
    f: (a, b) => ops.matmul(a, b),
  },
  {
    name: 'matmul-broadcast',
    inputs: [f32(2, 1, 3, 4), f32(3, 4, 2)],
    f: (a, b) => ops.matmul(a, b),
  },
  {
    name: 'gather',
    inputs: [f32(5, 3), i32(4)],
    integers: 5,
    f: (a, index) => ops.exp(ops.gather(a, index)),
  },
  {
    name: 'scatter-add',
    inputs: [f32(4, 3), i32(4)],
    integers: 6,
    f: (a, index) => ops.sin(ops.scatterAdd(index, a, 6)),
  },
  {
    name: 'cross-entropy',
    inputs: [f32(4, 3), i32(4)],
    integers: 3,
    f: (z, t) => ops.crossEntropy(z, t),
  },
  {
    name: 'cross-entropy-smoothed',
    inputs: [f32(4, 3), i32(4)],
    integers: 3,
    f: (z, t) =>
      ops.crossEntropy(z, t, {
        smoothing: 0.1,
        ignoreLabel: 2,
        classWeights: ops.constant([0.5, 2, 1]),
      }),
  },
  {
    name: 'cross-entropy-soft',
    inputs: [f32(2, 3)],
    f: (z) => ops.crossEntropy(z, ops.constant([0.2, 0.5, 0.3, 1, 0, 0], { shape: [2, 3] })),
  },
  {
    name: 'squared-error',
    inputs: [f32(4, 3), f32(4, 3)],
    f: (z, y) => ops.squaredError(z, y),
  },
  {
    name: 'logistic',
    inputs: [f32(6), i32(6)],
    integers: 2,
    f: (z, y) => ops.logistic(z, y),
  },
  {
    name: 'margin-logistic',
    inputs: [f32(6, 1), i32(6)],
    integers: 2,
    f: (z, y) => ops.marginLogistic(z, ops.sub(ops.mul(ops.cast(y, 'f32'), 2), 1)),
  },
  {
    name: 'hinge',
    inputs: [f32(6), i32(6)],
    integers: 2,
    f: (z, y) => ops.hinge(z, ops.sub(ops.mul(ops.cast(y, 'f32'), 2), 1)),
  },
  ...(
    [
      { kind: 'rational', numerator: 5, denominator: 4 },
      { kind: 'mexican-hat' },
      { kind: 'morlet', omega: 3 },
      { kind: 'dog' },
      { kind: 'meyer' },
      { kind: 'shannon' },
    ] as const
  ).map(
    (basis): OperationCase => ({
      name: `karat-edges-${basis.kind}`,
      inputs: [f32(2, 2, 3, 2), f32(2, 2, 4, 2), f32(1, 2, ops.edgeParameters(basis), 4, 2)],
      // Scales of wavelets away from 0, scores away from the kinks of |D| and |u|.
      domain: [0.4, 1.3],
      f: (q, k, theta) => ops.karatEdges(ops.neg(q), k, theta, { basis, scale: 0.7 }),
    }),
  ),
  {
    name: 'karat-edges-masked',
    inputs: [f32(2, 3, 1, 2), f32(2, 4, 1, 2), f32(2, 1, 3, 4, 2), i32(2, 4)],
    domain: [0.4, 1.3],
    integers: 2,
    f: (q, k, theta, keyMask) =>
      ops.tanh(ops.karatEdges(q, k, theta, { basis: { kind: 'dog' }, keyMask, layout: 'bnhd' })),
  },
  ...(['zero', 'identity', 'silu', 'gelu'] as const).map(
    (base): OperationCase => ({
      name: `karat-latent-${base}`,
      inputs: [f32(2, 2, 3, 3), f32(2, 2, 4, 3), f32(1, 2, base === 'zero' ? 6 : 7, 4, 2)],
      f: (q, k, c) => ops.karatLatent(q, k, c, { basis: { kind: 'fourier', harmonics: 3 }, base }),
    }),
  ),
  {
    // One set of coefficients for every two samples, other numbers of rows and keys.
    name: 'karat-latent-chebyshev',
    inputs: [f32(2, 2, 3, 2), f32(2, 2, 4, 2), f32(1, 2, 4, 4, 2)],
    f: (q, k, c) => ops.karatLatent(q, k, c, { basis: { kind: 'chebyshev', degree: 4 } }),
  },
  {
    name: 'karat-latent-rbf',
    inputs: [f32(2, 2, 3, 2), f32(2, 2, 4, 2), f32(1, 2, 6, 4, 2)],
    f: (q, k, c) =>
      ops.karatLatent(q, k, c, {
        basis: { kind: 'rbf', centers: 5, low: -2, high: 3 },
        base: 'silu',
      }),
  },
  {
    name: 'karat-latent-bspline',
    inputs: [f32(2, 2, 3, 2), f32(2, 2, 4, 2), f32(1, 2, 8, 4, 2)],
    f: (q, k, c) =>
      ops.karatLatent(q, k, c, {
        basis: { kind: 'bspline', order: 3, intervals: 4, range: 2.5 },
        base: 'gelu',
      }),
  },
  {
    name: 'karat-latent-masked',
    inputs: [f32(4, 5, 2, 2), f32(4, 3, 2, 2), f32(2, 2, 3, 3, 2), i32(4, 3)],
    integers: 2,
    f: (q, k, c, keyMask) =>
      ops.tanh(
        ops.karatLatent(q, k, c, {
          basis: { kind: 'fourier', harmonics: 1 },
          base: 'silu',
          layout: 'bnhd',
          keyMask,
        }),
      ),
  },
  {
    name: 'karat-latent-full-rank',
    inputs: [f32(2, 1, 3, 2), f32(2, 1, 3, 2), f32(2, 1, 2, 3, 3)],
    f: (q, k, c) =>
      ops.karatLatent(q, k, c, { basis: { kind: 'fourier', harmonics: 1 }, scale: 0.9 }),
  },
  {
    name: 'karat-latent-g5',
    inputs: [f32(1, 2, 5, 3), f32(1, 2, 9, 3), f32(1, 2, 10, 9, 3)],
    domain: [-1, 1],
    f: (q, k, c) => ops.karatLatent(q, k, c, { basis: { kind: 'fourier', harmonics: 5 } }),
  },
  {
    name: 'layer-norm',
    inputs: [f32(3, 5), f32(5), f32(5)],
    f: (x, scale, shift) => ops.layerNorm(x, { scale, shift }),
  },
  { name: 'rms-norm', inputs: [f32(3, 5), f32(5)], f: (x, scale) => ops.rmsNorm(x, { scale }) },
  {
    name: 'dropout',
    inputs: [f32(8, 5), i32(4)],
    integers: 100,
    f: (x, key) => ops.exp(ops.dropout(x, 0.4, key, 7)),
  },
  {
    name: 'random',
    inputs: [f32(3, 5), i32(4)],
    integers: 100,
    f: (x, key) => ops.mul(x, ops.random(key, [3, 5], { kind: 'normal', stream: 3 })),
  },
  {
    name: 'random-rademacher',
    inputs: [f32(7, 5), i32(4)],
    integers: 100,
    f: (x, key) => ops.mul(x, ops.random(key, [7, 5], { kind: 'rademacher', stream: 1 })),
  },
  {
    name: 'attention',
    inputs: [f32(2, 2, 3, 4), f32(2, 2, 3, 4), f32(2, 2, 3, 4)],
    f: (q, k, v) => ops.attention(q, k, v),
  },
  {
    name: 'attention-cross-odd',
    inputs: [f32(1, 1, 5, 3), f32(1, 1, 2, 3), f32(1, 1, 2, 1)],
    f: (q, k, v) => ops.attention(q, k, v, { scale: 0.7 }),
  },
  {
    name: 'attention-bnhd-causal',
    inputs: [f32(2, 4, 2, 3), f32(2, 4, 2, 3), f32(2, 4, 2, 2)],
    f: (q, k, v) => ops.attention(q, k, v, { causal: true, layout: 'bnhd' }),
  },
  {
    name: 'attention-masked',
    inputs: [f32(3, 1, 2, 2), f32(3, 1, 3, 2), f32(3, 1, 3, 2), i32(3, 3)],
    integers: 2,
    f: (q, k, v, keyMask) => ops.attention(q, k, v, { keyMask }),
  },
  {
    name: 'attention-bias',
    inputs: [f32(2, 2, 2, 2), f32(2, 2, 3, 2), f32(2, 2, 3, 2), f32(2, 2, 2, 3)],
    f: (q, k, v, bias) => ops.attention(q, k, v, { bias }),
  },
  {
    name: 'attention-shared-bias',
    inputs: [f32(2, 3, 2, 2), f32(2, 3, 2, 2), f32(2, 3, 2, 2), f32(1, 2, 3, 3), i32(2, 3)],
    integers: 3,
    f: (q, k, v, bias, keyMask) =>
      ops.attention(q, k, v, { bias, keyMask, causal: true, layout: 'bnhd' }),
  },
  {
    name: 'attention-constant-bias',
    inputs: [f32(2, 1, 2, 2), f32(2, 1, 3, 2), f32(2, 1, 3, 2)],
    f: (q, k, v) =>
      ops.attention(q, k, v, {
        bias: ops.constant([0, 1, -2, 0.5, -1, 0.3], { shape: [1, 1, 2, 3] }),
      }),
  },
  ...CONVOLUTION_CASES,
  ...CHANNEL_NORM_CASES,
  { name: 'tap', inputs: [f32(3)], f: (x) => ops.exp(ops.tap('x', x)) },
]
