import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Device, open } from '../../lib/device/device.js'
import { compile } from '../../lib/device/executable.js'
import * as ops from '../../lib/ops/index.js'
import {
  evaluate,
  gradProgram,
  type Program,
  type Tensor,
  trace,
  vjpProgram,
} from '../../lib/program/index.js'
import { normals, uniforms } from '../../lib/random/index.js'

/* The oracles of the specification (section 11), by their numbers. */

let device: Device
beforeAll(async () => {
  device = await open({ device: 'cpu' })
})
afterAll(() => device.dispose())

async function onDevice(
  program: Program,
  inputs: readonly ArrayLike<number>[],
  precision: 'f32' | 'f64' = 'f64',
): Promise<Float64Array[]> {
  const executable = compile(device, program, { precision })
  try {
    const results = await executable.run(inputs.map((x) => Float64Array.from(x)))
    return results.map((y) => Float64Array.from(y as Float32Array))
  } finally {
    executable.dispose()
  }
}

const draw = (seed: number, size: number): Float64Array => normals(seed, 0, 0, size)
const largest = (a: ArrayLike<number>, b: ArrayLike<number>): number =>
  Array.from(a).reduce((most, v, i) => Math.max(most, Math.abs(v - b[i])), 0)
const mean = (x: ArrayLike<number>): number => Array.from(x).reduce((s, v) => s + v, 0) / x.length

const [N, C, S] = [3, 6, 10]
const X = draw(1, N * C * S)
const SCALE = draw(2, C)
const SHIFT = draw(3, C)

describe('groups', () => {
  it('oracle 11: one group is layer norm, a group a channel is instance norm', async () => {
    const layer = trace((x) => ops.layerNorm(ops.reshape(x, [N, C * S])), [[N, C, S]])
    const channel = trace((x) => ops.layerNorm(x), [[N, C, S]])
    const one = trace((x) => ops.groupNorm(x, { groups: 1 }), [[N, C, S]])
    const all = trace((x) => ops.instanceNorm(x), [[N, C, S]])
    for (const [fused, composed] of [
      [one, layer],
      [all, channel],
    ]) {
      const [y] = await onDevice(fused, [X], 'f32')
      expect(largest(y, evaluate(composed, [X])[0])).toBeLessThan(1e-6 * 4)
    }
  })

  it('oracle 11: an affine part per group is one per channel with repeated values', async () => {
    const perGroup = trace((x, scale) => ops.channelNorm(x, { groups: 2, scale }), [[N, C, S], [2]])
    const perChannel = trace((x, scale) => ops.groupNorm(x, { groups: 2, scale }), [[N, C, S], [C]])
    const [a] = await onDevice(perGroup, [X, [0.7, -2]])
    const [b] = await onDevice(perChannel, [X, [0.7, 0.7, 0.7, -2, -2, -2]])
    expect(a).toEqual(b)
  })

  it('oracle 12: every cell has mean 0 and mean square v / (v + epsilon)', async () => {
    const epsilon = 0.3
    const program = trace((x) => ops.channelNorm(x, { groups: 2, epsilon }), [[N, C, S]])
    const [y] = await onDevice(program, [X])
    const size = (C / 2) * S
    for (let cell = 0; cell < N * 2; cell++) {
      const z = y.subarray(cell * size, (cell + 1) * size)
      const x = X.subarray(cell * size, (cell + 1) * size)
      const variance = mean(x.map((v) => (v - mean(x)) ** 2))
      expect(mean(z)).toBeCloseTo(0, 12)
      expect(mean(z.map((v) => v * v))).toBeCloseTo(variance / (variance + epsilon), 12)
    }
  })

  it('oracle 23: no channel mean exceeds the root of D - 1, which one offset attains', async () => {
    const D = 4
    const program = trace((x) => ops.channelNorm(x, { groups: 1 }), [[1, D, S]])
    let reached = 0
    for (let seed = 0; seed < 20; seed++) {
      const x = draw(10 + seed, D * S)
      for (let s = 0; s < S; s++) x[s] += 10 ** (seed / 4)
      const [y] = await onDevice(program, [x])
      for (let c = 0; c < D; c++) {
        const z = Math.abs(mean(y.subarray(c * S, (c + 1) * S)))
        expect(z).toBeLessThanOrEqual(Math.sqrt(D - 1) * (1 + 1e-12))
        reached = Math.max(reached, z)
      }
    }
    expect(reached).toBeGreaterThan(0.999 * Math.sqrt(D - 1))
  })
})

describe('estimates', () => {
  const old = { mean: draw(4, C), variance: draw(5, C).map((v) => v * v + 0.1) }
  type Options = Partial<ops.EstimatedBatchNormOptions>
  const estimated = (options: Options = {}): Program =>
    trace(
      (x, scale, mean, variance, rate) => {
        const all = ops.estimatedBatchNorm(x, { scale, mean, variance, rate, ...options })
        return [all.y, all.mean, all.variance]
      },
      [[N, C, S], [C], [C], [C], []],
    )

  it('oracle 13: rate 1 from the mean of the batch, through the update, is batch norm', async () => {
    const cotangent = draw(6, N * C * S)
    const batch = vjpProgram(trace((x, scale) => ops.batchNorm(x, { scale }).y, [[N, C, S], [C]]))
    const [y, dx, dscale] = await onDevice(batch, [X, SCALE, cotangent])
    const statistics = trace(
      (x) => {
        const { mean, variance } = ops.batchNorm(x)
        return [mean, variance]
      },
      [[N, C, S]],
    )
    const [mu] = await onDevice(statistics, [X])
    const through = trace(
      (x, scale, mean, variance, rate) =>
        ops.estimatedBatchNorm(x, { scale, mean, variance, rate, through: true }).y,
      [[N, C, S], [C], [C], [C], []],
    )
    const reverse = vjpProgram(through, [true, true, false, false, false])
    const results = await onDevice(reverse, [X, SCALE, mu, old.variance, [1], cotangent])
    for (const [i, expected] of [y, dx, dscale].entries()) {
      expect(largest(results[i], expected)).toBeLessThan(1e-12)
    }
  })

  it('oracle 14: rate 0 is frozen batch norm and leaves the estimates as they are', async () => {
    const frozen = trace(
      (x, scale, mean, variance) =>
        ops.batchNorm(x, { scale, mean, variance, statistics: 'frozen' }).y,
      [[N, C, S], [C], [C], [C]],
    )
    const [expected] = await onDevice(frozen, [X, SCALE, old.mean, old.variance])
    const [y, m, v] = await onDevice(estimated(), [X, SCALE, old.mean, old.variance, [0]])
    expect(largest(y, expected)).toBeLessThan(1e-13)
    expect(m).toEqual(old.mean)
    expect(v).toEqual(old.variance)
  })

  it('oracle 15: a constant stream moves the estimates by their closed form', async () => {
    const [k, r] = [3, 0.2]
    let m: ArrayLike<number> = new Float64Array(C)
    let v: ArrayLike<number> = new Float64Array(C).fill(1)
    let [expectedMean, expectedVariance] = [0, 1]
    const program = estimated()
    for (let t = 1; t <= 6; t++) {
      const x = new Float64Array(N * C * S).fill(k)
      ;[, m, v] = await onDevice(program, [x, SCALE, m, v, [r]])
      expectedVariance = (1 - r) * expectedVariance + r * (k - expectedMean) ** 2
      expectedMean = k * (1 - (1 - r) ** t)
      for (let c = 0; c < C; c++) {
        expect(m[c]).toBeCloseTo(expectedMean, 12)
        expect(v[c]).toBeCloseTo(expectedVariance, 12)
      }
    }
  })

  it('oracle 16: the variance tends to that within plus Var(mean) 2 / (2 - r)', async () => {
    // Many channels for many steps: 4e5 micro-batches of two behind the start.
    const [channels, r, start, steps] = [2000, 0.2, 60, 260]
    const program = trace(
      (x, mean, variance, rate) => {
        const all = ops.estimatedBatchNorm(x, { mean, variance, rate })
        return [all.mean, all.variance]
      },
      [[2, channels, 1], [channels], [channels], []],
    )
    const executable = compile(device, program, { precision: 'f64' })
    let m: ArrayLike<number> = new Float64Array(channels)
    let v: ArrayLike<number> = new Float64Array(channels).fill(1)
    let sum = 0
    for (let t = 0; t < steps; t++) {
      const between = draw(100 + 2 * t, channels)
      const within = draw(101 + 2 * t, 2 * channels)
      const x = within.map((value, i) => value + 1.5 * between[i % channels])
      ;[m, v] = (await executable.run([x, m, v, [r]])) as Float64Array[]
      if (t >= start) sum += mean(v)
    }
    executable.dispose()
    // Of two values, half the variance within is left about their mean; the mean has the rest.
    const expected = 1 / 2 + ((1.5 ** 2 + 1 / 2) * 2) / (2 - r)
    expect(Math.abs(sum / (steps - start) / expected - 1)).toBeLessThan(0.01)
  })

  it('starts with the batch where it is told to, whatever the estimates are', async () => {
    const program = trace(
      (x, mean, variance, rate, warm) => {
        const all = ops.estimatedBatchNorm(x, { mean, variance, rate, warm })
        return [all.y, all.mean, all.variance]
      },
      [[N, C, S], [C], [C], [], []],
    )
    const batch = trace(
      (x) => {
        const all = ops.batchNorm(x)
        return [all.y, all.mean, all.variance]
      },
      [[N, C, S]],
    )
    const warm = await onDevice(program, [X, old.mean, old.variance, [0.1], [1]])
    for (const [i, y] of (await onDevice(batch, [X])).entries()) {
      expect(largest(warm[i], y)).toBeLessThan(1e-13)
    }
  })

  it('has the derivatives of frozen statistics at the new estimates', async () => {
    const cotangent = draw(9, N * C * S)
    const [y, m, v] = await onDevice(estimated(), [X, SCALE, old.mean, old.variance, [0.3]])
    const own = trace(
      (x, scale, mean, variance, rate) =>
        ops.estimatedBatchNorm(x, { scale, mean, variance, rate }).y,
      [[N, C, S], [C], [C], [C], []],
    )
    const wrt = [true, true, false, false, false]
    const [, dx, dscale] = await onDevice(vjpProgram(own, wrt), [
      X,
      SCALE,
      old.mean,
      old.variance,
      [0.3],
      cotangent,
    ])
    const frozen = trace(
      (x, scale, mean, variance) =>
        ops.batchNorm(x, { scale, mean, variance, statistics: 'frozen' }).y,
      [[N, C, S], [C], [C], [C]],
    )
    const expected = await onDevice(vjpProgram(frozen, [true, true, false, false]), [
      X,
      SCALE,
      m,
      v,
      cotangent,
    ])
    for (const [i, result] of [y, dx, dscale].entries()) {
      expect(largest(result, expected[i])).toBeLessThan(1e-12)
    }
  })
})

describe('batch-channel norm', () => {
  it('oracle 17: statistics 0 and 1 - epsilon leave channel norm', async () => {
    const both = trace(
      (x, mean, variance) =>
        ops.batchChannelNorm(x, { mode: 'frozen', mean, variance, groups: 2 }).y,
      [[N, C, S], [C], [C]],
    )
    const one = trace((x) => ops.channelNorm(x, { groups: 2 }), [[N, C, S]])
    const flat = new Float64Array(C)
    const [y] = await onDevice(both, [X, flat, flat.map(() => 1 - 1e-5)])
    expect(largest(y, (await onDevice(one, [X]))[0])).toBeLessThan(1e-12)
  })

  it('oracle 18: of one sample with a channel a group it is instance norm twice', async () => {
    const x = X.subarray(0, C * S)
    const both = trace((t) => ops.batchChannelNorm(t, { groups: C }).y, [[1, C, S]])
    const twice = trace((t) => ops.instanceNorm(ops.instanceNorm(t)), [[1, C, S]])
    const [y] = await onDevice(both, [x])
    expect(largest(y, (await onDevice(twice, [x]))[0])).toBeLessThan(1e-12)
  })

  it('oracle 19: scaling a group’s affine part of the first stage changes nothing', async () => {
    const program = trace(
      (x, scale, shift) =>
        ops.batchChannelNorm(x, { scale, shift, groups: 2, channelEpsilon: 1e-12 }).y,
      [[N, C, S], [C], [C]],
    )
    const factors = [5, 5, 5, 0.1, 0.1, 0.1]
    const [y] = await onDevice(program, [X, SCALE, SHIFT])
    const [z] = await onDevice(program, [
      X,
      SCALE.map((v, c) => v * factors[c]),
      SHIFT.map((v, c) => v * factors[c]),
    ])
    expect(largest(y, z)).toBeLessThan(1e-8)
  })

  it('oracle 20: gradients of the first affine part sum to zero in every group', async () => {
    const gradients = (channelEpsilon: number): Program =>
      vjpProgram(
        trace(
          (x, scale, shift) =>
            ops.batchChannelNorm(x, { scale, shift, groups: 2, channelEpsilon }).y,
          [[N, C, S], [C], [C]],
        ),
        [false, true, true],
      )
    const operands = [X, SCALE, SHIFT, draw(12, N * C * S)]
    const [, , coarse] = await onDevice(gradients(0.1), operands)
    const [, dscale, dshift] = await onDevice(gradients(1e-14), operands)
    for (const g of [0, 1]) {
      const group = [0, 1, 2].map((i) => 3 * g + i)
      const sum = (f: (c: number) => number): number => group.reduce((s, c) => s + f(c), 0)
      expect(Math.abs(sum((c) => coarse[c]))).toBeLessThan(1e-10)
      expect(Math.abs(sum((c) => SCALE[c] * dscale[c] + SHIFT[c] * dshift[c]))).toBeLessThan(1e-10)
      expect(Math.max(...group.map((c) => Math.abs(dscale[c])))).toBeGreaterThan(0.1)
    }
  })

  it('oracle 21: fused equals composed, forward and backward, in f32', async () => {
    const norm = (fused: boolean) => (x: Tensor, scale: Tensor, shift: Tensor, a: Tensor) => {
      if (fused) {
        const options = { scale, shift, channelScale: a, groups: 2, relu: true } as const
        return ops.batchChannelNorm(x, options).y
      }
      const first = ops.moments(x, [0, 2])
      const unit = (m: { mean: Tensor; variance: Tensor }, t: Tensor): Tensor =>
        ops.mul(ops.sub(t, m.mean), ops.rsqrt(ops.add(m.variance, 1e-5)))
      const column = (t: Tensor): Tensor => ops.reshape(t, [-1, 1])
      const u = ops.add(ops.mul(unit(first, x), column(scale)), column(shift))
      const cells = ops.reshape(u, [N, 2, (C / 2) * S])
      const z = ops.mul(unit(ops.moments(cells, [2]), cells), column(a))
      return ops.relu(ops.reshape(z, [N, C, S]))
    }
    const types = [[N, C, S], [C], [C], [2]]
    const cotangent = draw(13, N * C * S)
    const operands = [X, SCALE, SHIFT, [0.5, -1.5], cotangent].map((v) => Float32Array.from(v))
    const fused = await onDevice(vjpProgram(trace(norm(true), types)), operands, 'f32')
    const composed = evaluate(vjpProgram(trace(norm(false), types)), operands)
    for (const [i, expected] of composed.entries()) {
      const size = Math.max(...expected.map(Math.abs))
      expect(largest(fused[i], expected) / size).toBeLessThan(i === 0 ? 1e-6 : 1e-5)
    }
  })

  it('oracle 24: the gradient agrees with differences in float64', async () => {
    const program = gradProgram(
      trace(
        (x, scale, w) =>
          ops.sum(ops.mul(ops.batchChannelNorm(x, { scale, groups: 3, layout: 'nhwc' }).y, w)),
        [[N, S, C], [C], [N, S, C]],
      ),
      [true, true, false],
    )
    const weights = draw(14, N * C * S)
    const direction = draw(15, N * C * S)
    const [, dx] = await onDevice(program, [X, SCALE, weights])
    const at = (t: number): number =>
      evaluate(program, [X.map((v, i) => v + t * direction[i]), SCALE, weights])[0][0]
    // Richardson: the error is of fourth order.
    const h = 1e-3
    const difference = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h)
    const exact = dx.reduce((s, v, i) => s + v * direction[i], 0)
    expect(Math.abs(exact - difference)).toBeLessThan(1e-9 * Math.max(1, Math.abs(exact)))
  })
})

describe('large offsets', () => {
  it('oracle 22: 1e4 + N(0, 1) in f32 keeps its deviation', async () => {
    const [n, c, s] = [2, 3, 5000]
    const x = Float32Array.from(draw(16, n * c * s), (v) => 1e4 + v)
    const program = trace(
      (t) => {
        const { y, variance } = ops.batchNorm(t, { layout: 'nhwc' })
        return [y, variance, ops.groupNorm(t, { groups: 1, layout: 'nhwc' })]
      },
      [[n, s, c]],
    )
    const results = await onDevice(program, [x], 'f32')
    const naive: number[] = []
    for (const [i, expected] of evaluate(program, [x]).entries()) {
      expect(largest(results[i], expected)).toBeLessThan(1e-3)
    }
    for (let channel = 0; channel < c; channel++) {
      let [sum, squares] = [0, 0]
      for (let i = channel; i < x.length; i += c) {
        sum = Math.fround(sum + x[i])
        squares = Math.fround(squares + Math.fround(x[i] * x[i]))
      }
      naive.push(squares / (n * s) - (sum / (n * s)) ** 2)
    }
    expect(Math.max(...naive.map((v) => Math.abs(Math.sqrt(Math.max(0, v)) - 1)))).toBeGreaterThan(
      1e-3,
    )
  })
})

describe('statistics and derivatives', () => {
  it('lets no gradient through the statistics that it returns', async () => {
    const program = gradProgram(
      trace(
        (x) => {
          const { mean, variance } = ops.batchNorm(x)
          return ops.add(ops.sum(mean), ops.sum(variance))
        },
        [[N, C, S]],
      ),
    )
    expect((await onDevice(program, [X]))[1]).toEqual(new Float64Array(N * C * S))
  })

  it('treats given statistics and rates as constants', async () => {
    const program = trace(
      (x, mean, variance, rate) =>
        ops.sum(ops.estimatedBatchNorm(x, { mean, variance, rate, through: true }).y),
      [[N, C, S], [C], [C], []],
    )
    const [, ...gradients] = await onDevice(gradProgram(program, [false, true, true, true]), [
      X,
      SHIFT,
      SCALE.map(Math.abs),
      [0.3],
    ])
    for (const g of gradients) expect(g.every((v) => v === 0)).toBe(true)
  })

  it('gives both layouts the same numbers', async () => {
    const both = (['nchw', 'nhwc'] as const).map((layout) =>
      trace(
        (t, scale, residual) => {
          const [x, r] = [t, residual].map((v) =>
            layout === 'nhwc' ? ops.transpose(v, [0, 2, 3, 1]) : v,
          )
          const all = ops.batchChannelNorm(x, {
            scale,
            groups: 3,
            layout,
            relu: true,
            residual: r,
          })
          return layout === 'nhwc' ? ops.transpose(all.y, [0, 3, 1, 2]) : all.y
        },
        [[N, C, 2, 5], [C], [N, C, 2, 5]],
      ),
    )
    const operands = [X, SCALE, draw(17, N * C * S), draw(18, N * C * S)]
    const [a, b] = await Promise.all(both.map((p) => onDevice(vjpProgram(p), operands)))
    for (const [i, y] of a.entries()) expect(largest(y, b[i])).toBeLessThan(1e-12)
  })

  it('is deterministic', async () => {
    const program = gradProgram(
      trace(
        (x) => ops.sum(ops.mul(ops.batchChannelNorm(x, { layout: 'nhwc' }).y, x)),
        [[5, 40, 40, 32]],
      ),
    )
    const x = uniforms(3, 0, 0, 5 * 40 * 40 * 32)
    const first = await onDevice(program, [x], 'f32')
    expect(await onDevice(program, [x], 'f32')).toEqual(first)
  })
})

describe('bad input', () => {
  const types = [[2, 6, 3], [6], []]
  const refuses = (f: (x: Tensor, c: Tensor, s: Tensor) => unknown): string => {
    try {
      trace((x, c, s) => {
        f(x, c, s)
        return x
      }, types)
    } catch (error) {
      return `${(error as { code: string }).code} ${(error as Error).message}`
    }
    return 'nothing thrown'
  }

  it.each<[string, (x: Tensor, c: Tensor, s: Tensor) => unknown, RegExp]>([
    ['groups that do not divide', (x) => ops.groupNorm(x, { groups: 4 }), /ERR_SHAPE .*4 groups/],
    ['the default of 32 groups', (x) => ops.groupNorm(x), /ERR_SHAPE .*32 groups divide.*6/],
    ['no groups', (x) => ops.groupNorm(x, { groups: 0 }), /ERR_ARGUMENT .*positive/],
    ['half a group', (x) => ops.batchChannelNorm(x, { groups: 1.5 }), /ERR_ARGUMENT/],
    [
      'one value a channel',
      (x) => ops.batchNorm(ops.slice(x, [0, 0, 0], [1, 6, 1])),
      /ERR_SHAPE .*two values or more/,
    ],
    [
      'one value a group',
      (x) => ops.instanceNorm(ops.slice(x, [0, 0, 0], [2, 6, 1])),
      /ERR_SHAPE .*two values or more/,
    ],
    [
      'another layout',
      (x) => ops.batchNorm(x, { layout: 'hwcn' as 'nhwc' }),
      /ERR_ARGUMENT .*nhwc/,
    ],
    [
      'a scale of the other layout',
      (x, c) => ops.batchNorm(x, { scale: c, layout: 'nhwc' }),
      /ERR_SHAPE .*\[3\]/,
    ],
    ['a scalar', (_x, _c, s) => ops.batchNorm(s), /ERR_SHAPE .*\[N, C, ..\]/],
    ['a number', () => ops.batchNorm(3 as never), /ERR_ARGUMENT .*traced/],
    ['a negative epsilon', (x) => ops.batchNorm(x, { epsilon: -1 }), /ERR_ARGUMENT .*epsilon/],
    [
      'an epsilon that is none',
      (x) => ops.groupNorm(x, { groups: 2, epsilon: Number.NaN }),
      /ERR_ARGUMENT/,
    ],
    [
      'frozen without statistics',
      (x) => ops.batchNorm(x, { statistics: 'frozen' }),
      /ERR_ARGUMENT .*mean/,
    ],
    [
      'statistics that are none',
      (x) => ops.batchNorm(x, { statistics: 'old' as never }),
      /ERR_ARGUMENT .*frozen/,
    ],
    [
      'a mode that is none',
      (x) => ops.batchChannelNorm(x, { mode: 'micro' as never }),
      /ERR_ARGUMENT/,
    ],
    [
      'a rate that is a number',
      (x, c) => ops.estimatedBatchNorm(x, { mean: c, variance: c, rate: 0.1 as never }),
      /ERR_ARGUMENT .*rate/,
    ],
    [
      'a rate per channel',
      (x, c) => ops.estimatedBatchNorm(x, { mean: c, variance: c, rate: c }),
      /ERR_SHAPE .*rate/,
    ],
    [
      'gradients through an update that comes after',
      (x, c, s) =>
        ops.estimatedBatchNorm(x, { mean: c, variance: c, rate: s, through: true, order: 'after' }),
      /ERR_ARGUMENT .*through/,
    ],
    [
      'a residual of another shape',
      (x, c) => ops.batchNorm(x, { residual: c }),
      /ERR_SHAPE .*residual/,
    ],
    ['an unknown option', (x) => ops.batchNorm(x, { eps: 1 } as never), /ERR_ARGUMENT .*eps/],
    ['integers', (x) => ops.batchNorm(ops.cast(x, 'i32')), /ERR_DTYPE/],
  ])('refuses %s', (_what, f, message) => {
    expect(refuses(f)).toMatch(message)
  })

  it.each([
    ['NaN', Number.NaN, 'mean'],
    ['infinite', Number.POSITIVE_INFINITY, 'variance'],
    ['negative', -0.5, 'variance'],
  ])('refuses estimates that are %s when it runs', async (_what, value, name) => {
    const program = trace(
      (x, mean, variance) => ops.batchNorm(x, { mean, variance, statistics: 'frozen' }).y,
      [[2, 2, 3], [2], [2]],
    )
    const operands = [new Float64Array(12), [0, 0], [1, 1]]
    ;(operands[name === 'mean' ? 1 : 2] as number[])[1] = value
    const error = { code: 'ERR_RANGE', message: expect.stringContaining('channel 1') }
    expect(() => evaluate(program, operands)).toThrow(expect.objectContaining(error))
    await expect(onDevice(program, operands)).rejects.toMatchObject(error)
  })

  it.each([Number.NaN, -0.1, 1.5])('refuses the update rate %s when it runs', async (rate) => {
    const program = trace(
      (x, mean, variance, rate) => ops.estimatedBatchNorm(x, { mean, variance, rate }).y,
      [[2, 2, 3], [2], [2], []],
    )
    const operands = [new Float64Array(12), [0, 0], [1, 1], [rate]]
    const error = { code: 'ERR_RANGE', message: expect.stringContaining('rate from 0 to 1') }
    expect(() => evaluate(program, operands)).toThrow(expect.objectContaining(error))
    await expect(onDevice(program, operands)).rejects.toMatchObject(error)
  })
})
