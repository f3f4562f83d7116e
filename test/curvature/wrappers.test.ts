import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { checkOperator } from '../../lib/curvature/check.js'
import { exactSpectrum } from '../../lib/curvature/dense.js'
import { inverse } from '../../lib/curvature/inverse.js'
import { lanczos } from '../../lib/curvature/lanczos.js'
import { hessian } from '../../lib/curvature/network.js'
import { isNative, type LinearOperator, type Precision } from '../../lib/curvature/operator.js'
import { denseOperator, operatorFrom } from '../../lib/curvature/operators.js'
import { slq } from '../../lib/curvature/slq.js'
import type { WrappedOperator } from '../../lib/curvature/wrap.js'
import {
  masked,
  negated,
  preconditioned,
  scaled,
  shifted,
  squared,
  summed,
} from '../../lib/curvature/wrappers.js'
import { type Device, open } from '../../lib/device/device.js'
import { normals } from '../../lib/random/index.js'
import { MODEL_CASES } from './cases.js'

type Matrix = Float64Array

const N = 70
/** Error of an entry relative to the largest of the products that make it up. */
const TOLERANCE = { f32: 2e-6, f64: 1e-13 } as const

let device: Device
beforeAll(async () => {
  device = await open({ device: 'cpu' })
})
afterAll(() => device.dispose())

/** Symmetric, eigenvalues of both signs. */
function symmetric(n: number, seed: number): Matrix {
  const a = normals(seed, 0, 0, n * n, new Float64Array(n * n))
  return a.map((x, at) => (x + a[(at % n) * n + Math.floor(at / n)]) / 2)
}

/** B Bᵀ / n + I / 10 */
function positive(n: number, seed: number): Matrix {
  const b = normals(seed, 0, 0, n * n, new Float64Array(n * n))
  return multiply(b, transpose(b)).map((x, at) => x / n + (at % (n + 1) === 0 ? 0.1 : 0))
}

function transpose(a: Matrix): Matrix {
  const n = Math.sqrt(a.length)
  return a.map((_, at) => a[(at % n) * n + Math.floor(at / n)])
}

function multiply(a: Matrix, b: Matrix): Matrix {
  const n = Math.sqrt(a.length)
  const out = new Float64Array(n * n)
  for (let i = 0; i < n; i++) {
    for (let k = 0; k < n; k++) {
      for (let j = 0; j < n; j++) out[i * n + j] += a[i * n + k] * b[k * n + j]
    }
  }
  return out
}

/** From a function that JavaScript runs. */
function user(matrix: Matrix, dtype: Precision, withAdjoint = false): LinearOperator {
  const n = Math.sqrt(matrix.length)
  const product = (a: Matrix) => (v: ArrayLike<number>) =>
    Array.from({ length: n }, (_, i) => {
      let sum = 0
      for (let j = 0; j < n; j++) sum += a[i * n + j] * v[j]
      return sum
    })
  const adjoint = withAdjoint ? product(transpose(matrix)) : undefined
  return operatorFrom(product(matrix), n, { dtype, adjoint })
}

const BASES = {
  native: (matrix: Matrix, dtype: Precision): LinearOperator =>
    denseOperator(device, matrix, { dtype }),
  user: (matrix: Matrix, dtype: Precision): LinearOperator => user(matrix, dtype),
}

/** A applied to the unit vectors; row j is column j of A. */
async function columns(operator: LinearOperator): Promise<Matrix> {
  const n = operator.size
  const unit = Float64Array.from({ length: n * n }, (_, at) => (at % (n + 1) === 0 ? 1 : 0))
  return Float64Array.from(await operator.matmat(unit, n))
}

const largest = (a: ArrayLike<number>): number =>
  Array.from(a).reduce((m, x) => Math.max(m, Math.abs(x)), 0)

function distance(a: ArrayLike<number>, b: ArrayLike<number>): number {
  expect(a.length).toBe(b.length)
  return largest(Array.from(a, (x, i) => x - b[i])) / largest(b)
}

const eye = (at: number, n = N): number => (at % (n + 1) === 0 ? 1 : 0)
const a = symmetric(N, 1)
const b = symmetric(N, 2)
const u = normals(3, 0, 0, N)
const mask = Array.from({ length: N }, (_, i) => (i % 3 === 0 ? 0 : 1))
const d = Array.from({ length: N }, (_, i) => 0.5 + (i % 7))

/** Each wrapper of A (and B), and its dense oracle. */
const WRAPPERS: Record<
  string,
  { wrap: (A: LinearOperator, B: LinearOperator) => WrappedOperator; oracle: () => Matrix }
> = {
  shifted: { wrap: (A) => shifted(A, -1.5), oracle: () => a.map((x, at) => x - 1.5 * eye(at)) },
  scaled: { wrap: (A) => scaled(A, 0.3), oracle: () => a.map((x) => 0.3 * x) },
  negated: { wrap: (A) => negated(A), oracle: () => a.map((x) => -x) },
  squared: { wrap: (A) => squared(A), oracle: () => multiply(a, a) },
  summed: {
    wrap: (A, B) =>
      summed([{ operator: A, factor: 2 }, { operator: B }, { operator: A, factor: -0.5 }], {
        rankOne: [{ vector: u, factor: -0.25 }, { vector: Array.from(d) }],
      }),
    oracle: () =>
      a.map((x, at) => {
        const [i, j] = [Math.floor(at / N), at % N]
        return 1.5 * x + b[at] - 0.25 * u[i] * u[j] + d[i] * d[j]
      }),
  },
  masked: {
    wrap: (A) => masked(A, mask),
    oracle: () => a.map((x, at) => x * mask[Math.floor(at / N)] * mask[at % N]),
  },
  preconditioned: {
    wrap: (A) => preconditioned(A, d),
    oracle: () => a.map((x, at) => x / Math.sqrt(d[Math.floor(at / N)] * d[at % N])),
  },
  'wrappers of wrappers': {
    wrap: (A, B) => shifted(squared(masked(summed([{ operator: A }, { operator: B }]), mask)), 2),
    oracle: () => {
      const m = a.map((x, at) => (x + b[at]) * mask[Math.floor(at / N)] * mask[at % N])
      return multiply(m, m).map((x, at) => x + 2 * eye(at))
    },
  },
}

describe.each(['native', 'user'] as const)('%s operators', (kind) => {
  describe.each(Object.keys(WRAPPERS))('%s', (name) => {
    it.each(['f32', 'f64'] as const)('has the columns of the dense oracle in %s', async (dtype) => {
      const { wrap, oracle } = WRAPPERS[name]
      const A = BASES[kind](a, dtype)
      const wrapped = wrap(A, BASES[kind](b, dtype))
      expect(isNative(wrapped)).toBe(kind === 'native')
      expect(wrapped).toMatchObject({ size: N, dtype })
      expect(distance(await columns(wrapped), oracle())).toBeLessThan(TOLERANCE[dtype])
      // A single product is the same as one of a block.
      const v = normals(4, 0, 0, 2 * N)
      const block = await wrapped.matmat(v, 2)
      const single = await wrapped.matvec(v.slice(N))
      expect(distance(single, block.slice(N))).toBeLessThan(TOLERANCE[dtype])
      wrapped.dispose()
      await expect(wrapped.matvec(v.slice(N))).rejects.toMatchObject({ code: 'ERR_DISPOSED' })
      await expect(A.matvec(v.slice(N))).resolves.toHaveLength(N)
    })
  })

  it.each(['f32', 'f64'] as const)('inverse solves systems in %s', async (dtype) => {
    const matrix = positive(N, 5)
    const base = BASES[kind](matrix, dtype)
    const exact = await exactSpectrum(denseOperator(device, matrix), { vectors: true })
    const q = exact.vectors as Matrix
    const expected = multiply(
      transpose(q),
      q.map((x, at) => x / (exact.values[Math.floor(at / N)] + 0.05)),
    )
    const tol = { f32: 1e-4, f64: 1e-9 }[dtype]
    for (const preconditioner of [undefined, matrix.filter((_, at) => eye(at) === 1)]) {
      using solver = inverse(base, { damping: 0.05, preconditioner })
      expect(isNative(solver)).toBe(kind === 'native')
      expect(distance(await columns(solver), expected)).toBeLessThan(tol)
      expect(await solver.matvec(new Float64Array(N))).toEqual(
        dtype === 'f32' ? new Float32Array(N) : new Float64Array(N),
      )
      // And back: A (A + δ)⁻¹ v + δ (A + δ)⁻¹ v = v
      const v = normals(6, 0, 0, N)
      using damped = shifted(base, 0.05)
      expect(distance(await damped.matvec(await solver.matvec(v)), v)).toBeLessThan(tol)
    }
  })

  it('inverse: a preconditioner saves iterations on a badly scaled diagonal', async () => {
    const scales = Float64Array.from({ length: N }, (_, i) => 10 ** ((i % 8) - 4))
    const matrix = new Float64Array(N * N).map((_, at) => eye(at) * scales[at % N])
    for (let i = 1; i < N; i++) {
      const x = 0.2 * Math.sqrt(scales[i] * scales[i - 1])
      matrix[i * N + i - 1] = matrix[(i - 1) * N + i] = x
    }
    const base = BASES[kind](matrix, 'f64')
    const v = normals(7, 0, 0, N)
    const few = { tol: 1e-8, maxIterations: 30 }
    await expect(inverse(base, few).matvec(v)).rejects.toMatchObject({
      code: 'ERR_OPERATOR',
      message: expect.stringMatching(/relative residual of .* after 30 iterations.*maxIterations/),
    })
    const x = await inverse(base, { ...few, preconditioner: scales }).matvec(v)
    expect(distance(await base.matvec(x), v)).toBeLessThan(1e-7)
    const partial = await inverse(base, { ...few, allowUnconverged: true }).matvec(v)
    expect(partial.every(Number.isFinite)).toBe(true)
    expect(distance(partial, x)).toBeGreaterThan(1e-8)
  })

  it('inverse names a curvature that is not positive', async () => {
    const base = BASES[kind](a, 'f64')
    const v = normals(8, 0, 0, N)
    const { values } = await exactSpectrum(base)
    await expect(inverse(base).matvec(v)).rejects.toMatchObject({
      code: 'ERR_OPERATOR',
      message: expect.stringMatching(/curvature -\d.*not positive definite.*damping than 0\./),
    })
    const zero = BASES[kind](new Float64Array(N * N), 'f64')
    await expect(inverse(zero).matvec(v)).rejects.toMatchObject({ code: 'ERR_OPERATOR' })
    // Damping beyond the smallest eigenvalue mends it.
    using solver = inverse(base, { damping: 0.5 - values[0] })
    await expect(solver.matvec(v)).resolves.toHaveLength(N)
  })

  it('reports progress up to the total, and can be aborted', async () => {
    const base = BASES[kind](positive(N, 5), 'f64')
    for (const wrapped of [shifted(base, 1), squared(base), masked(base, mask), inverse(base)]) {
      const seen: number[][] = []
      await wrapped.matmat(normals(9, 0, 0, 3 * N), 3, {
        onProgress: (done, total) => seen.push([done, total]),
      })
      const [done, total] = seen[seen.length - 1]
      expect(done).toBe(total)
      const signal = AbortSignal.abort('enough')
      await expect(wrapped.matvec(u, { signal })).rejects.toMatchObject({ code: 'ERR_ABORTED' })
    }
  })

  it('serves algorithms: eigenvalues of wrappers are those of their oracles', async () => {
    const matrix = positive(N, 5)
    const base = BASES[kind](matrix, 'f64')
    const { values } = await exactSpectrum(base)
    const bottom = await lanczos(negated(base), { k: 2, maxSteps: N })
    expect(distance(bottom.values, [-values[0], -values[1]])).toBeLessThan(1e-9)
    const inverted = await lanczos(inverse(base, { damping: 0.1, tol: 1e-13 }), { k: 2 })
    expect(
      distance(
        inverted.values,
        [values[0], values[1]].map((x) => 1 / (x + 0.1)),
      ),
    ).toBeLessThan(1e-8)
    // n steps see the whole spectrum.
    const { nodes } = await slq(squared(shifted(base, -1)), { probes: 1, steps: N })
    const squares = values.map((x) => (x - 1) ** 2).sort()
    expect(distance(nodes[0], squares)).toBeLessThan(1e-9)
  })
})

describe('adjoints', () => {
  const skew = normals(11, 0, 0, N * N, new Float64Array(N * N))
  const base = user(skew, 'f64', true)

  it('squared is AᵀA, symmetric', async () => {
    const wrapped = squared(base)
    expect(wrapped.adjoint).toBeUndefined()
    expect(distance(await columns(wrapped), multiply(transpose(skew), skew))).toBeLessThan(1e-13)
    await expect(checkOperator(wrapped)).resolves.toBeDefined()
    await expect(checkOperator(base)).rejects.toMatchObject({ code: 'ERR_OPERATOR' })
  })

  it('pass through sums and masks', async () => {
    const v = normals(12, 0, 0, N)
    for (const wrapped of [
      shifted(base, 2),
      summed([{ operator: base, factor: -3 }, { operator: user(a, 'f64') }]),
      masked(base, mask),
      preconditioned(base, d),
    ]) {
      const expected = transpose(await columns(wrapped))
      const viaColumns = Array.from({ length: N }, (_, i) => {
        let sum = 0
        // Row j of columns() is column j: its transpose has rows, so this is Aᵀ v.
        for (let j = 0; j < N; j++) sum += expected[j * N + i] * v[j]
        return sum
      })
      expect(distance((await wrapped.adjoint?.(v)) ?? [], viaColumns)).toBeLessThan(1e-12)
    }
    expect(shifted(user(a, 'f64'), 1).adjoint).toBeUndefined()
    expect(() => inverse(base)).toThrow(/symmetric/)
  })
})

describe('a network', () => {
  const { model, params, set } = MODEL_CASES[1]
  const options = { precision: 'f64', tangents: 4 } as const

  it('masks by parameter names, whose storage has padding', async () => {
    const n = model.size
    using h = hessian(device, model, params, set, options)
    const dense = await columns(h)
    const kept = new Float64Array(n)
    model.layout.view(kept, 'layers.1.weight').fill(1)
    model.layout.view(kept, 'layers.2.bias').fill(1)
    const expected = dense.map((x, at) => x * kept[Math.floor(at / n)] * kept[at % n])
    for (const names of [['layers.1.weight', 'layers.2.bias'], 'layers.1.weight,layers.2.bias']) {
      using block = masked(h, names)
      expect(distance(await columns(block), expected)).toBeLessThan(1e-13)
    }
    using pattern = masked(h, '*,!*.bias')
    const weights = new Float64Array(n).fill(1)
    for (const name of model.layout.match('*.bias')) model.layout.view(weights, name).fill(0)
    const part = await columns(pattern)
    expect(
      distance(
        part,
        dense.map((x, at) => x * weights[Math.floor(at / n)] * weights[at % n]),
      ),
    ).toBeLessThan(1e-13)
    expect(() => masked(h, ['nothing'])).toThrow(/no parameter 'nothing'/)
  })

  it('sums with rank-one terms and inverts; wrappers outlive their base', async () => {
    const n = model.size
    const h = hessian(device, model, params, set, options)
    const dense = await columns(h)
    const g = normals(13, 0, 0, n)
    const { values } = await exactSpectrum(h)
    const damping = 0.01 - values[0]
    const sum = summed([{ operator: h, factor: 0.5 }], { rankOne: [{ vector: g, factor: 2 }] })
    const solver = inverse(h, { damping })
    h.dispose()
    const expected = dense.map((x, at) => 0.5 * x + 2 * g[Math.floor(at / n)] * g[at % n])
    expect(distance(await columns(sum), expected)).toBeLessThan(1e-13)
    const x = await solver.matvec(g)
    const back = Array.from({ length: n }, (_, i) => {
      let total = damping * x[i]
      for (let j = 0; j < n; j++) total += dense[i * n + j] * x[j]
      return total
    })
    expect(distance(back, g)).toBeLessThan(1e-9)
    sum.dispose()
    solver.dispose()
  })

  it('falls back to JavaScript for a sum with a user operator', async () => {
    using h = hessian(device, model, params, set, options)
    const zero = operatorFrom((v) => v.map(() => 0), model.size)
    using sum = summed([{ operator: h }, { operator: zero }])
    expect(isNative(sum)).toBe(false)
    expect(distance(await columns(sum), await columns(h))).toBeLessThan(1e-15)
  })
})

it('many rows go through in groups', async () => {
  const A = denseOperator(device, a)
  const count = 150
  const vs = normals(14, 0, 0, count * N)
  const wrapped = [squared(A), masked(A, mask), summed([{ operator: A }, { operator: A }])]
  for (const operator of wrapped) {
    const all = await operator.matmat(vs, count)
    for (const row of [0, 63, 64, 149]) {
      const one = await operator.matvec(vs.slice(row * N, (row + 1) * N))
      expect(distance(all.slice(row * N, (row + 1) * N), one)).toBeLessThan(1e-15)
    }
  }
})

describe('bad input', () => {
  const A = user(a, 'f64')
  const bad: [string, () => unknown, string][] = [
    ['sigma', () => shifted(A, Number.NaN), 'ERR_ARGUMENT'],
    ['factor', () => scaled(A, Number.POSITIVE_INFINITY), 'ERR_ARGUMENT'],
    ['an empty sum', () => summed([]), 'ERR_ARGUMENT'],
    [
      'sizes',
      () => summed([{ operator: A }, { operator: user(positive(3, 1), 'f64') }]),
      'ERR_SHAPE',
    ],
    ['precisions', () => summed([{ operator: A }, { operator: user(a, 'f32') }]), 'ERR_DTYPE'],
    ['rank one', () => summed([{ operator: A }], { rankOne: [{ vector: [1] }] }), 'ERR_SHAPE'],
    ['option', () => summed([{ operator: A }], { rank: [] } as object), 'ERR_ARGUMENT'],
    ['mask length', () => masked(A, [1, 0]), 'ERR_SHAPE'],
    [
      'mask value',
      () =>
        masked(
          A,
          mask.map((x) => x / 2),
        ),
      'ERR_ARGUMENT',
    ],
    ['mask by name', () => masked(A, 'layers.*'), 'ERR_ARGUMENT'],
    ['diagonal zero', () => preconditioned(A, mask), 'ERR_ARGUMENT'],
    [
      'diagonal NaN',
      () =>
        preconditioned(
          A,
          d.map(() => Number.NaN),
        ),
      'ERR_NOT_FINITE',
    ],
    ['tol', () => inverse(A, { tol: -1 }), 'ERR_ARGUMENT'],
    ['iterations', () => inverse(A, { maxIterations: 0 }), 'ERR_ARGUMENT'],
    ['preconditioner', () => inverse(A, { preconditioner: [1] }), 'ERR_SHAPE'],
    ['inverse option', () => inverse(A, { dampening: 1 } as object), 'ERR_ARGUMENT'],
  ]
  it.each(bad)('%s', (_, make, code) => {
    expect(make).toThrow(expect.objectContaining({ code }))
  })

  it('a vector of wrong length or with NaN', async () => {
    for (const base of [A, denseOperator(device, a)]) {
      const wrapped = shifted(base, 1)
      await expect(wrapped.matvec([1])).rejects.toMatchObject({ code: 'ERR_SHAPE' })
      await expect(wrapped.matvec(u.map(() => Number.NaN))).rejects.toMatchObject({
        code: 'ERR_NOT_FINITE',
      })
    }
  })
})
