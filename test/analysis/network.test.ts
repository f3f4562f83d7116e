import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  type Device,
  data,
  decompositionGap,
  evaluate,
  exactSpectrum,
  gaussNewton,
  gradientOverlap,
  hessian,
  linePath,
  models,
  open,
  ops,
  remainder,
  subspaceOverlap,
} from '../../lib/index.js'
import { normals } from '../../lib/random/index.js'

let device: Device
beforeAll(async () => {
  device = await open()
})
afterAll(() => device.dispose())

const set = data.blobs({ n: 30, classes: 3, dim: 4, seed: 1 })
const model = models.mlp({ input: 4, hidden: [5], classes: 3, activation: 'tanh' })
const precision = 'f64'

describe('linePath()', () => {
  it('passes through both ends and agrees with evaluate() between them', async () => {
    const [a, b] = [model.init(1), model.init(2)]
    const path = await linePath(device, model, a, b, set, { from: -0.5, points: 7, precision })
    expect([...path.alpha]).toEqual([-0.5, -0.25, 0, 0.25, 0.5, 0.75, 1])
    for (const [k, t] of path.alpha.entries()) {
      const theta = a.map((x, i) => (1 - t) * x + t * b[i])
      const direct = await evaluate(device, model, theta, set, { precision })
      expect(path.loss[k]).toBeCloseTo(direct.loss, 12)
      expect(path.accuracy?.[k]).toBeCloseTo(direct.accuracy as number, 12)
    }
  })

  it('knows the barrier of (uv - 1)² between its two minima', async () => {
    // L = ½ (uv - 1)² at (1, 1) and (-1, -1): on the line uv = s², so the top is L(0) = ½.
    const product = models.define({
      name: 'uv',
      input: [1],
      output: [1],
      parameters: [
        { name: 'u', shape: [1, 1], init: { kind: 'ones' } },
        { name: 'v', shape: [1, 1], init: { kind: 'ones' } },
      ],
      apply: ({ u, v }, x) => ops.mul(x, ops.mul(u, v)),
    })
    const one = data.fromArrays([[1]], [1], { targetShape: [1] })
    const loss = 'half-squared-error'
    const path = await linePath(device, product, [1, 1], [-1, -1], one, { loss, precision })
    expect(path.barrier).toBeCloseTo(0.5, 12)
    expect(path.barrierAt).toBeCloseTo(0.5, 12)
    expect(path.maximum).toBeCloseTo(0.5, 12)
    expect(path.accuracy).toBeNull()
    const down = await linePath(device, product, [1, 1], [1, 1], one, { loss, points: 3 })
    expect(down.barrier).toBe(0)
  })

  it('puts 0 and 1 among the points and refuses bad ends, vectors and signals', async () => {
    const a = model.init(1)
    const path = await linePath(device, model, a, a, set, { from: -0.3, to: 1.3, points: 3 })
    expect([...path.alpha]).toEqual([-0.3, 0, 0.5, 1, 1.3])
    const code = (promise: Promise<unknown>) => expect(promise).rejects
    await code(linePath(device, model, a, a, set, { points: 1 })).toMatchObject({
      code: 'ERR_ARGUMENT',
    })
    await code(linePath(device, model, a, a, set, { from: 1, to: 0 })).toMatchObject({
      code: 'ERR_ARGUMENT',
    })
    await code(linePath(device, model, a, [1], set)).toMatchObject({ code: 'ERR_SHAPE' })
    const signal = AbortSignal.abort()
    await code(linePath(device, model, a, a, set, { signal })).toMatchObject({
      code: 'ERR_ABORTED',
    })
  })
})

describe('subspaceOverlap()', () => {
  const e = (i: number) => Array.from({ length: 6 }, (_, k) => (k === i ? 1 : 0))

  it('is 1 for one subspace in two bases, 0 for orthogonal ones', async () => {
    const same = await subspaceOverlap(
      [e(0), e(1)],
      [
        [1, 2, 0, 0, 0, 0],
        [3, -1, 0, 0, 0, 0],
      ],
    )
    expect(same.overlap).toBeCloseTo(1, 12)
    expect((await subspaceOverlap([e(0), e(1)], [e(2), e(3), e(4)])).overlap).toBe(0)
    const contained = await subspaceOverlap([e(0)], [e(0), e(1), e(2)])
    expect(contained.overlap).toBeCloseTo(1, 12)
  })

  it('gives the cosines of the principal angles', async () => {
    const [c, s] = [Math.cos(0.3), Math.sin(0.3)]
    const { cosines, overlap } = await subspaceOverlap([e(0), e(1)], [[c, 0, s, 0, 0, 0], e(1)])
    expect(cosines[0]).toBeCloseTo(1, 12)
    expect(cosines[1]).toBeCloseTo(c, 12)
    expect(overlap).toBeCloseTo((1 + c * c) / 2, 12)
  })

  it('drops vectors that depend on others, and refuses nothing but zeros', async () => {
    const twice = await subspaceOverlap([e(0), e(0)], [e(0), e(1)])
    expect(twice.cosines).toHaveLength(1)
    await expect(subspaceOverlap([[0, 0]], [[1, 0]])).rejects.toMatchObject({
      code: 'ERR_ARGUMENT',
    })
    await expect(subspaceOverlap([[1, 0]], [[1, 0, 0]])).rejects.toMatchObject({
      code: 'ERR_SHAPE',
    })
  })
})

describe('gradientOverlap()', () => {
  it('is the squared cosine to the subspace', async () => {
    const { share, each } = await gradientOverlap(
      [3, 4, 12],
      [
        [2, 0, 0],
        [1, 5, 0],
      ],
    )
    expect(share).toBeCloseTo(25 / 169, 12)
    expect(each[0]).toBeCloseTo(9 / 169, 12)
    await expect(gradientOverlap([0, 0], [[1, 0]])).rejects.toMatchObject({ code: 'ERR_ARGUMENT' })
  })
})

describe('decompositionGap()', () => {
  it('measures H = G + F as the dense matrices have it, and finds no negative part in G', async () => {
    const theta = normals(3, 0, 0, model.size).map((x) => 0.5 * x)
    const parts = {
      hessian: hessian(device, model, theta, set, { precision }),
      gaussNewton: gaussNewton(device, model, theta, set, { precision }),
      remainder: remainder(device, model, theta, set, { precision }),
    }
    const gap = await decompositionGap(parts)
    const h = (await exactSpectrum(parts.hessian)).values
    const f = (await exactSpectrum(parts.remainder)).values
    const norm = (values: Float64Array) => Math.hypot(...values)
    expect(gap.exact).toBe(true)
    expect(gap.gap).toBeCloseTo(norm(f) / norm(h), 10)
    expect(gap.negativeRatio).toBeCloseTo(-h[0] / h[h.length - 1], 10)
    const negative = h.filter((x) => x < -gap.hessian.floor).length
    expect(gap.hessian.negativeShare).toBeCloseTo(negative / h.length, 10)
    expect(negative).toBeGreaterThan(0)
    expect(gap.gaussNewton.negativeShare).toBe(0)

    const estimate = await decompositionGap(parts, { exactUpTo: 10, probes: 60, steps: 43 })
    expect(estimate.exact).toBe(false)
    // Hutchinson's error of ‖·‖_F² with 60 probes is some per cent.
    expect(estimate.gap / gap.gap).toBeGreaterThan(0.8)
    expect(estimate.gap / gap.gap).toBeLessThan(1.25)
    for (const part of Object.values(parts)) part.dispose()
  })

  it('is 0 for a linear model, whose Hessian is its Gauss-Newton matrix', async () => {
    const linear = models.mlp({ input: 4, hidden: [], classes: 3 })
    const theta = linear.init(1)
    const parts = {
      hessian: hessian(device, linear, theta, set, { precision }),
      gaussNewton: gaussNewton(device, linear, theta, set, { precision }),
      remainder: remainder(device, linear, theta, set, { precision }),
    }
    const gap = await decompositionGap(parts)
    expect(gap.gap).toBeLessThan(1e-12)
    expect(gap.hessian.negativeShare).toBe(0)
    for (const part of Object.values(parts)) part.dispose()
  })
})
