import { describe, expect, it } from 'vitest'
import {
  attend,
  attendWeights,
  attentionScores,
  attentionWeights,
  blockAttention,
} from '../../lib/nn/attention/attend.js'
import { karatActivationFlops, karatParameterCount } from '../../lib/nn/attention/cost.js'
import { karatAttention, karatWeights, type ScoreOptions } from '../../lib/nn/attention/karat.js'
import { type KaratOptions, karatSetting } from '../../lib/nn/attention/options.js'
import { karatParameters } from '../../lib/nn/attention/parameters.js'
import { parseAttention } from '../../lib/nn/attention/parse.js'
import type { TensorMap } from '../../lib/nn/model.js'
import * as ops from '../../lib/ops/index.js'
import { evaluate, trace, vjp } from '../../lib/program/index.js'
import type { Tensor } from '../../lib/program/tensor.js'
import * as oracle from './materialised.js'
import { gaussian, largest, relative } from './support.js'

const [B, H, N, D] = [2, 3, 7, 4]
const SHAPE = [B, H, N, D]
const count = (shape: readonly number[]): number => shape.reduce((n, d) => n * d, 1)

type Options = Omit<KaratOptions, 'heads'>
type Body = (q: Tensor, k: Tensor, v: Tensor, p: TensorMap, extra: Tensor[]) => Tensor

const Q = gaussian(1, count(SHAPE)).map((x) => 1.5 * x)
const K = gaussian(2, count(SHAPE))
const V = gaussian(3, count(SHAPE))

/** Random tensors of a setting, of order one. */
function draw(
  options: Options,
  heads = H,
  tokens = N,
): { names: string[]; values: Float64Array[] } {
  const list = karatParameters(karatSetting(options), { heads, tokens })
  return {
    names: list.map(({ name }) => name),
    // Scales of wavelets stay away from 0.
    values: list.map(({ name, shape }, i) =>
      gaussian(20 + i, count(shape)).map((x) =>
        name.startsWith('scale') ? 1.5 + 0.2 * x : 0.5 * x,
      ),
    ),
  }
}

/** Evaluates a body on q, k, v, the parameters of `options`, and further tensors. */
function run(
  options: Options,
  body: Body,
  at: {
    q?: Float64Array
    k?: Float64Array
    v?: Float64Array
    values?: Float64Array[]
    extra?: { type: { dtype: 'f32' | 'i32'; shape: number[] }; data: ArrayLike<number> }[]
  } = {},
): Float64Array {
  const list = karatParameters(karatSetting(options), { heads: H, tokens: N })
  const extra = at.extra ?? []
  const program = trace(
    (q, k, v, ...rest) => {
      const named = Object.fromEntries(list.map(({ name }, i) => [name, rest[i]]))
      return body(q, k, v, named, rest.slice(list.length))
    },
    [SHAPE, SHAPE, SHAPE, ...list.map(({ shape }) => shape), ...extra.map(({ type }) => type)],
  )
  const { q = Q, k = K, v = V, values = draw(options).values } = at
  return evaluate(program, [q, k, v, ...values, ...extra.map(({ data }) => data)])[0]
}

const attendBy =
  (options: Options & ScoreOptions): Body =>
  (q, k, v, p) =>
    karatAttention(q, k, v, p, options)

/** The definition, with one loop a term: σ̂ [B, H, N, N] from scores written out. */
function definition(options: Options): Body {
  const setting = karatSetting(options)
  const { base, order } = setting
  return (q, k, v, p) => {
    const x = ops.mul(ops.matmul(q, k, { transB: true }), 1 / Math.sqrt(D))
    const latents = order === 'full' ? N : setting.r
    // Σ over inputs m of φ_pm(x_nm); a, b are [H, p, m, G], or [H, p, l, G] from latents.
    const layer = (y: Tensor, suffix: string, transposed: boolean): Tensor => {
      const inputs = y.shape[3]
      const outputs = transposed ? N : latents
      const features = oracle.features(y, setting.basis as oracle.KaratBasis, base)
      const both = ops.concat([p[`a${suffix}`], p[`b${suffix}`]], 3)
      const columns: Tensor[] = []
      for (let o = 0; o < outputs; o++) {
        let sum = ops.constant(0, { shape: [B, H, N, inputs] })
        for (const [j, f] of features.entries()) {
          const isBase = j === 2 * setting.G
          const edge = (t: Tensor, g: number): Tensor => {
            const start = transposed ? [0, 0, o] : [0, o, 0]
            const sizes = transposed ? [H, inputs, 1] : [H, 1, inputs]
            const full = t.rank === 4
            const cut = ops.slice(t, full ? [...start, g] : start, full ? [...sizes, 1] : sizes)
            return ops.reshape(cut, [1, H, 1, inputs])
          }
          const ws = p[`ws${suffix}`]
          const wb = p[`wb${suffix}`]
          let term = f
          if (!isBase) term = ops.mul(f, edge(both, j))
          if (!isBase && ws) term = ops.mul(term, edge(ws, 0))
          if (isBase && wb) term = ops.mul(f, edge(wb, 0))
          sum = ops.add(sum, term)
        }
        columns.push(ops.sum(sum, [3], true))
      }
      return ops.concat(columns, 3)
    }
    const shift = (z: Tensor): Tensor =>
      p.c0 ? ops.add(z, ops.reshape(p.c0, [1, H, 1, latents])) : z
    const project = (z: Tensor): Tensor =>
      setting.projection === 'latent' ? oracle.simplexProject(z) : z
    let weights: Tensor
    if (order === 'w-phi') {
      weights = ops.matmul(project(shift(layer(x, '', false))), p.weight, { transB: true })
    } else if (order === 'phi-w') {
      weights = layer(project(shift(ops.matmul(x, p.weight))), '', true)
    } else if (order === 'phi-phi') {
      weights = layer(project(shift(layer(x, '', false))), '2', true)
    } else {
      weights = shift(layer(x, '', false))
    }
    if (setting.projection === 'output') weights = oracle.simplexProject(weights)
    return ops.matmul(weights, v)
  }
}

const CASES: readonly [string, Options][] = [
  ['w-phi', { G: 3, r: 2 }],
  ['w-phi with everything', { G: 2, r: 4, base: 'gelu', edgeScales: true, latentBias: true }],
  ['fixed scale of the base', { G: 1, r: 2, base: 'identity' }],
  ['phi-w', { order: 'phi-w', G: 2, r: 3 }],
  [
    'phi-w with everything',
    { order: 'phi-w', G: 2, r: 3, base: 'silu', edgeScales: true, latentBias: true },
  ],
  ['phi-phi', { order: 'phi-phi', G: 2, r: 3, latentBias: true }],
  ['phi-phi with scales', { order: 'phi-phi', G: 1, r: 3, base: 'silu', edgeScales: true }],
  ['full', { order: 'full', G: 2 }],
  [
    'full with everything',
    { order: 'full', G: 2, base: 'silu', edgeScales: true, latentBias: true },
  ],
  ['latent projection', { G: 2, r: 3, projection: 'latent' }],
  ['latent projection of phi-w', { order: 'phi-w', G: 2, r: 3, projection: 'latent' }],
  ['output projection', { G: 2, r: 3, projection: 'output' }],
  ['output projection of full', { order: 'full', G: 2, projection: 'output' }],
]

describe.each(CASES)('karatAttention: %s', (_, options) => {
  it('is its definition, evaluated edge by edge', () => {
    expect(
      relative(run(options, attendBy(options)), run(options, definition(options))),
    ).toBeLessThan(1e-12)
  })

  it('is the product of its weights with the values', () => {
    const product: Body = (q, k, v, p) => ops.matmul(karatWeights(q, k, p, options), v)
    expect(relative(run(options, product), run(options, attendBy(options)))).toBeLessThan(1e-12)
    const plain = attendBy({ ...options, reassociate: false })
    expect(relative(run(options, plain), run(options, attendBy(options)))).toBeLessThan(1e-12)
  })

  it('takes tokens before heads as well', () => {
    const swap = (x: Tensor): Tensor => ops.transpose(x, [0, 2, 1, 3])
    const swapped: Body = (q, k, v, p) =>
      swap(karatAttention(swap(q), swap(k), swap(v), p, { ...options, layout: 'bnhd' }))
    expect(relative(run(options, swapped), run(options, attendBy(options)))).toBeLessThan(1e-12)
  })

  it('leaves masked tokens out', () => {
    const keep = [1, 0, 1, 1, 0, 1, 1]
    const mask = { type: { dtype: 'i32' as const, shape: [B, N] }, data: [...keep, ...keep] }
    const masked: Body = (q, k, v, p, [keyMask]) =>
      karatAttention(q, k, v, p, { ...options, keyMask })
    const y = run(options, masked, { extra: [mask] })
    // Whatever stands in masked keys and values does not matter, only in queries.
    const noisy = (x: Float64Array, seed: number): Float64Array =>
      x.map((value, i) => (keep[Math.floor(i / D) % N] ? value : gaussian(seed, x.length)[i]))
    const again = run(options, masked, { k: noisy(K, 8), v: noisy(V, 9), extra: [mask] })
    expect(relative(again, y)).toBeLessThan(1e-13)
    expect(relative(run(options, attendBy(options)), y)).toBeGreaterThan(1e-3)
  })

  it('adds a bias to its scores', () => {
    const shift = {
      type: { dtype: 'f32' as const, shape: [1, H, N, N] },
      data: gaussian(31, H * N * N),
    }
    const biased: Body = (q, k, v, p, [bias]) => karatAttention(q, k, v, p, { ...options, bias })
    // The same scores from q = (q, rows of the identity) and k = (k, columns of the bias).
    const plain = run(options, biased, { q: Q.map(() => 0), extra: [shift] })
    const scores = (q: Tensor, k: Tensor, v: Tensor, p: TensorMap, [bias]: Tensor[]): Tensor => {
      void q
      void k
      const units = ops.cast(ops.eq(ops.iota([N, N], 0), ops.iota([N, N], 1)), 'f32')
      const rows = ops.broadcastTo(ops.transpose(bias), [B, H, N, N])
      return karatAttention(ops.broadcastTo(units, [B, H, N, N]), rows, v, p, {
        ...options,
        scale: 1,
      })
    }
    expect(relative(run(options, scores, { extra: [shift] }), plain)).toBeLessThan(1e-12)
  })
})

describe('learnable attention', () => {
  it('of full rank is the modular one with r = N and W = 1', () => {
    const full: Options = { order: 'full', G: 2 }
    const modular: Options = { order: 'w-phi', G: 2, r: N }
    const { values } = draw(full)
    const identity = Float64Array.from({ length: H * N * N }, (_, i) =>
      Math.floor(i / N) % N === i % N ? 1 : 0,
    )
    const a = run(full, attendBy(full), { values })
    const b = run(modular, attendBy(modular), { values: [...values, identity] })
    expect(relative(a, b)).toBeLessThan(1e-12)
  })

  it('of identity bases is linear attention: O = s Q Kᵀ wbᵀ Wᵀ V', () => {
    const options: Options = { G: 1, r: 2, base: 'identity', edgeScales: true }
    const { names, values } = draw(options)
    for (const name of ['a', 'b']) values[names.indexOf(name)].fill(0)
    const linear: Body = (q, k, v, p) => {
      const scores = ops.mul(ops.matmul(q, k, { transB: true }), 1 / Math.sqrt(D))
      const z = ops.matmul(scores, p.wb, { transB: true })
      return ops.matmul(ops.matmul(z, p.weight, { transB: true }), v)
    }
    expect(
      relative(run(options, attendBy(options), { values }), run(options, linear, { values })),
    ).toBeLessThan(1e-12)
  })

  it('is 0 with zero derivatives of q and k for zero coefficients', () => {
    const options: Options = { G: 2, r: 3 }
    const { names, values } = draw(options)
    for (const name of ['a', 'b']) values[names.indexOf(name)].fill(0)
    expect(largest(run(options, attendBy(options), { values }))).toBe(0)
    const derivative: Body = (q, k, v, p) => {
      const { values: y, pullback } = vjp(
        (x, z, u, ...rest) =>
          karatAttention(x, z, u, Object.fromEntries(names.map((n, i) => [n, rest[i]])), options),
        [q, k, v, ...names.map((name) => p[name])],
        [0, 1],
      )
      return ops.concat([...pullback(ops.onesLike(y[0]))], 0)
    }
    expect(largest(run(options, derivative, { values }))).toBe(0)
  })

  it('permutes with its queries, and with its keys only when its parameters do', () => {
    const options: Options = { G: 2, r: 3 }
    const perm = [3, 0, 6, 2, 5, 1, 4]
    const rows = (x: Float64Array): Float64Array =>
      x.map((_, i) => {
        const [row, d] = [Math.floor(i / D), i % D]
        return x[(Math.floor(row / N) * N + perm[row % N]) * D + d]
      })
    const y = run(options, attendBy(options))
    expect(relative(run(options, attendBy(options), { q: rows(Q) }), rows(y))).toBeLessThan(1e-13)
    const { names, values } = draw(options)
    const [r, G] = [3, 2]
    const moved = values.map((x, t) =>
      names[t] === 'weight'
        ? x.map((_, i) => {
            const [row, p] = [Math.floor(i / r), i % r]
            return x[(Math.floor(row / N) * N + perm[row % N]) * r + p]
          })
        : x.map((_, i) => {
            const [row, g] = [Math.floor(i / G), i % G]
            return x[(Math.floor(row / N) * N + perm[row % N]) * G + g]
          }),
    )
    const both = { k: rows(K), v: rows(V) }
    expect(relative(run(options, attendBy(options), { ...both, values: moved }), y)).toBeLessThan(
      1e-12,
    )
    expect(relative(run(options, attendBy(options), both), y)).toBeGreaterThan(0.1)
  })

  it('does not change when harmonics and latents of no weight are added', () => {
    const options: Options = { G: 2, r: 3 }
    const wider: Options = { G: 4, r: 5 }
    const { names, values } = draw(options)
    const padded = values.map((x, t) => {
      if (names[t] === 'weight') {
        return Float64Array.from({ length: H * N * 5 }, (_, i) =>
          i % 5 < 3 ? x[Math.floor(i / 5) * 3 + (i % 5)] : 0,
        )
      }
      return Float64Array.from({ length: H * 5 * N * 4 }, (_, i) => {
        const [g, n, p, h] = [
          i % 4,
          Math.floor(i / 4) % N,
          Math.floor(i / 4 / N) % 5,
          Math.floor(i / 4 / N / 5),
        ]
        return g < 2 && p < 3 ? x[((h * 3 + p) * N + n) * 2 + g] : 0
      })
    })
    const y = run(options, attendBy(options), { values })
    expect(relative(run(wider, attendBy(wider), { values: padded }), y)).toBeLessThan(1e-13)
  })

  it('has weights of rank r at most', () => {
    const options: Options = { G: 2, r: 3 }
    const weights = run(options, (q, k, _, p) => karatWeights(q, k, p, options))
    // Gram-Schmidt with pivoting on the columns of the first head's 7 x 7 weights.
    let columns = Array.from({ length: N }, (_, l) =>
      Array.from({ length: N }, (_, n) => weights[n * N + l]),
    )
    const norms: number[] = []
    for (let step = 0; step < 4; step++) {
      const size = (c: number[]): number => Math.hypot(...c)
      const pivot = columns.reduce((a, c) => (size(c) > size(a) ? c : a))
      norms.push(size(pivot))
      const unit = pivot.map((x) => x / size(pivot))
      columns = columns.map((c) => {
        const along = c.reduce((s, x, i) => s + x * unit[i], 0)
        return c.map((x, i) => x - along * unit[i])
      })
    }
    expect(norms[2]).toBeGreaterThan(1e-2 * norms[0])
    expect(norms[3]).toBeLessThan(1e-13 * norms[0])
  })

  it('projects rows of weights on the simplex', () => {
    const options: Options = { G: 2, r: 3, projection: 'output' }
    const weights = run(options, (q, k, _, p) => karatWeights(q, k, p, options))
    expect(Math.min(...weights)).toBeGreaterThanOrEqual(0)
    for (let row = 0; row < weights.length; row += N) {
      expect(weights.slice(row, row + N).reduce((s, w) => s + w, 0)).toBeCloseTo(1, 12)
    }
  })

  it('starts with latent numbers and outputs of the variance of the values', () => {
    const tokens = 64
    const setting = karatSetting({ G: 3, r: 12 })
    const stds = Object.fromEntries(
      karatParameters(setting, { heads: 1, tokens }).map(({ name, init }) => [
        name,
        'std' in init ? init.std : 0,
      ]),
    )
    expect(stds.a ** 2 * tokens * 3).toBeCloseTo(1, 12)
    expect(stds.weight ** 2 * tokens * 12).toBeCloseTo(1, 12)
  })
})

describe('heads of different kinds', () => {
  const all = { q: [B, N, H, D], k: [B, N, H, D], v: [B, N, H, D] }
  const swap = (x: Float64Array): Float64Array =>
    x.map((_, i) => {
      const [d, h, n, b] = [
        i % D,
        Math.floor(i / D) % H,
        Math.floor(i / D / H) % N,
        Math.floor(i / D / H / N),
      ]
      return x[((b * H + h) * N + n) * D + d]
    })
  const inputs = [Q, K, V].map(swap)

  it('all softmax are softmax attention', () => {
    const attention = blockAttention({ heads: ['softmax', 'softmax', 'softmax'] }, H)
    const program = trace(
      (q, k, v) => [
        attend({ q, k, v }, attention, {}, '', { layout: 'bnhd' }),
        oracle.attention(q, k, v, { layout: 'bnhd' }),
        attendWeights({ q, k }, attention, {}, '', { layout: 'bnhd' }),
        attentionWeights(q, k, { layout: 'bnhd' }),
      ],
      Object.values(all),
    )
    const [mixed, plain, weights, expected] = evaluate(program, inputs)
    expect(relative(mixed, plain)).toBeLessThan(1e-13)
    expect(weights).toEqual(expected)
  })

  it('are each evaluated by themselves, in their own places', () => {
    const attention = blockAttention({ r: 2, heads: [{ G: 1 }, 'softmax', { G: 3, r: 4 }] }, H)
    const [first, , third] = attention.groups
    expect(attention.groups.map((g) => [g.heads, g.prefix])).toEqual([
      [[0], '0.'],
      [[1], ''],
      [[2], '1.'],
    ])
    const sets = [first, third].map((group) =>
      karatParameters(group.setting as never, { heads: 1, tokens: N, prefix: group.prefix }),
    )
    const list = sets.flat()
    const values = list.map(({ shape }, i) => gaussian(40 + i, count(shape)))
    const program = trace(
      (q, k, v, ...p) => {
        const named = Object.fromEntries(list.map(({ name }, i) => [`x.${name}`, p[i]]))
        const own = (prefix: string): TensorMap =>
          Object.fromEntries(
            list.flatMap(({ name }, i) => (name.startsWith(prefix) ? [[name.slice(2), p[i]]] : [])),
          )
        const head = (x: Tensor, h: number): Tensor => ops.slice(x, [0, 0, h, 0], [B, N, 1, D])
        const parts = [
          karatAttention(head(q, 0), head(k, 0), head(v, 0), own('0.'), {
            G: 1,
            r: 2,
            layout: 'bnhd',
          }),
          oracle.attention(head(q, 1), head(k, 1), head(v, 1), { layout: 'bnhd' }),
          karatAttention(head(q, 2), head(k, 2), head(v, 2), own('1.'), {
            G: 3,
            r: 4,
            layout: 'bnhd',
          }),
        ]
        const o = attend({ q, k, v }, attention, named, 'x.', { layout: 'bnhd' })
        const weights = attendWeights({ q, k }, attention, named, 'x.', { layout: 'bnhd' })
        const product = ops.matmul(weights, ops.transpose(v, [0, 2, 1, 3]))
        return [o, ops.concat(parts, 2), ops.transpose(product, [0, 2, 1, 3])]
      },
      [...Object.values(all), ...list.map(({ shape }) => shape)],
    )
    const [together, apart, product] = evaluate(program, [...inputs, ...values])
    expect(relative(together, apart)).toBeLessThan(1e-13)
    expect(relative(product, apart)).toBeLessThan(1e-12)
  })

  it('masks keys of softmax weights, and whole rows', () => {
    const program = trace(
      (q, k, keyMask) => attentionWeights(q, k, { layout: 'bnhd', keyMask }),
      [all.q, all.k, { dtype: 'i32', shape: [B, N] }],
    )
    const mask = [1, 0, 1, 1, 0, 1, 1, ...new Array(N).fill(0)]
    const [weights] = evaluate(program, [...inputs.slice(0, 2), mask])
    const rows = weights.length / 2 / N
    for (let row = 0; row < rows; row++) {
      const own = weights.slice(row * N, row * N + N)
      expect([own[1], own[4]]).toEqual([0, 0])
      expect(own.reduce((s, w) => s + w, 0)).toBeCloseTo(1, 12)
    }
    expect(largest(weights.slice(weights.length / 2))).toBe(0)
  })
})

describe('attention by its text', () => {
  it.each([
    ['softmax', null],
    ['karat', { G: 3, share: 'block' }],
    ['karat:G3B', { G: 3, share: 'block' }],
    ['karat:G11U,r4', { G: 11, share: 'universal', r: 4 }],
    ['karat:G1,phi-w,silu,edge-scales', { G: 1, order: 'phi-w', base: 'silu', edgeScales: true }],
    [
      'karat:U,full,latent-bias,init=smooth',
      { share: 'universal', order: 'full', latentBias: true, init: 'smooth' },
    ],
    [
      'karat:G2B,project-output,basis=fourier',
      { G: 2, share: 'block', projection: 'output', basis: 'fourier' },
    ],
    ['karat:r8,heads=softmax/G3/G1r4', { r: 8, heads: ['softmax', { G: 3 }, { G: 1, r: 4 }] }],
  ])('%s', (text, options) => {
    expect(parseAttention(text)).toEqual(options)
  })

  it.each([
    ['karat:G0B', /G to be a positive integer, got 0/],
    ['karat:r0', /r to be a positive integer, got 0/],
    ['karat:G3X', /item 'G3X'/],
    ['karat:', /item ''/],
    ['karat:heads=softmax/x', /head 'x'/],
    ['karat:init=mine', /variance, paper, smooth/],
    ['karat:basis=haar', /fourier, chebyshev/],
    ['kart:G3B', /known: softmax/],
    ['', /known: softmax/],
  ])('refuses %j', (text, message) => {
    expect(() => parseAttention(text)).toThrowError(message)
    expect(() => parseAttention(text)).toThrowError(
      expect.objectContaining({ code: 'ERR_ARGUMENT' }),
    )
  })

  it('refuses what is neither text nor options', () => {
    for (const choice of [3, null, undefined]) {
      expect(() => parseAttention(choice as never)).toThrowError(
        expect.objectContaining({ code: 'ERR_ARGUMENT' }),
      )
    }
  })
})

describe('bad input of learnable attention', () => {
  const codeOf = (f: () => unknown): string => {
    try {
      f()
      return 'none'
    } catch (error) {
      return `${(error as { code?: string }).code}: ${(error as Error).message}`
    }
  }
  const options: Options = { G: 2, r: 3 }

  it('names a wrong number of tokens', () => {
    const { values } = draw(options, H, N + 1)
    const list = karatParameters(karatSetting(options), { heads: H, tokens: N + 1 })
    const traced = (): unknown =>
      trace(
        (q, k, v, ...p) =>
          karatAttention(
            q,
            k,
            v,
            Object.fromEntries(list.map(({ name }, i) => [name, p[i]])),
            options,
          ),
        [SHAPE, SHAPE, SHAPE, ...list.map(({ shape }) => shape)],
      )
    expect(values).toHaveLength(3)
    expect(codeOf(traced)).toMatch(/ERR_SHAPE: .* 7 tokens needs 'a' \[3,3,7,2\], got \[3,3,8,2\]/)
  })

  it('names a missing tensor, and keys or values of another shape', () => {
    const withShapes = (k: number[], v: number[], p: TensorMap = {}): string =>
      codeOf(() => trace((q, a, b) => karatAttention(q, a, b, p, options), [SHAPE, k, v]))
    expect(withShapes(SHAPE, SHAPE)).toMatch(/ERR_ARGUMENT: .*needs the parameter 'a'/)
    expect(withShapes([B, H, N + 1, D], SHAPE)).toMatch(/ERR_SHAPE: .*q and k of one shape/)
    expect(
      codeOf(() =>
        run(options, (q, k, v, p) =>
          karatAttention(q, k, ops.reshape(v, [B, H, N * D]), p, options),
        ),
      ),
    ).toMatch(/ERR_SHAPE: .*values of the shape/)
  })

  it.each([
    [{ projection: 'output', reassociate: true }, /cannot be reassociated/],
    [{ order: 'full', projection: 'latent' }, /no latent numbers/],
    [{ basis: 'morlet', base: 'silu' }, /no base function/],
    [{ basis: 'rational', edgeScales: true }, /no edge scales/],
    [{ G: 1.5 }, /G to be a positive integer/],
    [{ r: 0 }, /r to be a positive integer/],
    [{ share: 'none' }, /block, universal/],
    [{ order: 'phi' }, /w-phi, phi-w/],
    [{ edgeScales: 'yes' }, /true or false/],
    [{ g: 3 }, /no option 'g'/],
    [{ basis: 3 }, /basis/],
  ])('%j', (bad, message) => {
    expect(codeOf(() => karatSetting(bad as never))).toMatch(/^ERR_ARGUMENT/)
    expect(codeOf(() => karatSetting(bad as never))).toMatch(message)
  })

  it.each([
    [{ heads: ['softmax'] }, /each of 3 heads, got 1/],
    [{ heads: 'softmax' }, /each of 3 heads/],
    [{ heads: ['softmax', 'softmax', 'relu'] }, /'softmax' or { G, r }/],
    [{ heads: ['softmax', { G: 0 }, 'softmax'] }, /G to be a positive integer/],
    [{ heads: ['softmax', { order: 'full' }, 'softmax'] }, /'softmax' or { G, r }/],
  ])('heads %j', (bad, message) => {
    expect(codeOf(() => blockAttention(bad as never, 3))).toMatch(message)
  })
})

describe('arguments of the wrong kind', () => {
  const inTrace = (f: (q: Tensor) => unknown): unknown =>
    trace(
      (q) => {
        f(q)
        return q
      },
      [SHAPE],
    )
  it.each<[string, (q: Tensor) => unknown]>([
    ['karatAttention', () => karatAttention(null as never, null as never, null as never, {})],
    ['karatAttention, v', (q) => karatAttention(q, q, 3 as never, allOf(q), { G: 1, r: 1 })],
    ['karatAttention, parameters', (q) => karatAttention(q, q, q, null as never)],
    ['karatAttention, layout', (q) => karatAttention(q, q, q, {}, { layout: 'nbhd' as never })],
    ['karatAttention, scale', (q) => karatAttention(q, q, q, {}, { scale: Number.NaN })],
    ['karatAttention, option', (q) => karatAttention(q, q, q, {}, { heads: [] } as never)],
    ['karatWeights', (q) => karatWeights(q, [1] as never, {})],
    ['attentionWeights', (q) => attentionWeights(q, undefined as never)],
    ['attentionScores', (q) => attentionScores(q, ops.reshape(q, [-1]))],
    ['karatParameters', () => karatParameters({}, undefined as never)],
    ['karatParameters, tokens', () => karatParameters({}, { heads: 1, tokens: 0 })],
    ['karatActivationFlops', () => karatActivationFlops(undefined as never)],
    ['karatParameterCount', () => karatParameterCount({ G: 1 } as never)],
  ])('%s', (_, f) => {
    expect(() => inTrace(f)).toThrowError(
      expect.objectContaining({ code: expect.stringMatching(/^ERR_(ARGUMENT|SHAPE)$/) }),
    )
  })

  function allOf(q: Tensor): TensorMap {
    const list = karatParameters({ G: 1, r: 1 }, { heads: q.shape[1], tokens: q.shape[2] })
    return Object.fromEntries(list.map(({ name, shape }) => [name, ops.constant(0, { shape })]))
  }
})

describe('cost', () => {
  it.each([
    [{ G: 3, heads: 3 }, 0.1677e9],
    [{ G: 3, heads: 6 }, 0.3353e9],
    [{ G: 1, heads: 12 }, 0.2682e9],
  ])('%j has the operations of the published table', (size, flops) => {
    const all = { ...size, r: 12, tokens: 197, depth: 12 }
    expect(Math.abs(karatActivationFlops(all) - flops)).toBeLessThan(0.00005e9)
  })

  it('counts parameters as the models do', () => {
    const size = { G: 3, heads: 3, r: 12, tokens: 197, depth: 12 }
    expect(karatParameterCount(size, { edgeScales: true })).toBe(765_936)
    expect(karatParameterCount(size, { edgeScales: true, universal: true })).toBe(63_828)
    expect(karatParameterCount(size)).toBe(7 * 197 * 12 * 3 * 12)
  })

  it('refuses sizes that are none', () => {
    const size = { G: 3, heads: 3, r: 12, tokens: 0, depth: 12 }
    expect(() => karatActivationFlops(size)).toThrowError(
      expect.objectContaining({ code: 'ERR_ARGUMENT' }),
    )
  })
})
