import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { pcaPlane } from '../../lib/analysis/pca-plane.js'
import { surfaceRoughness } from '../../lib/analysis/roughness.js'
import { lossSurface } from '../../lib/analysis/surface.js'
import { type Device, data, evaluate, models, open, train } from '../../lib/index.js'

let device: Device
beforeAll(async () => {
  device = await open()
})
afterAll(() => device.dispose())

const set = data.blobs({ n: 60, classes: 3, dim: 4, seed: 1 })
const model = models.mlp({ input: 4, hidden: [5], classes: 3, activation: 'tanh' })
const precision = 'f64'
const code = (code: string) => expect.objectContaining({ code })

async function trained() {
  const checkpoints: ArrayLike<number>[] = [model.init(0)]
  const run = await train(device, model, set, {
    optimizer: { kind: 'sgd', lr: 0.1 },
    steps: 40,
    batch: 20,
    precision,
    checkpointEvery: 10,
    onCheckpoint: ({ params }) => void checkpoints.push(params),
  })
  return { checkpoints, params: run.params }
}

describe('lossSurface()', () => {
  it('has the loss of evaluate() at every point', async () => {
    const { checkpoints } = await trained()
    const plane = await pcaPlane(checkpoints)
    const seen: number[] = []
    const surface = await lossSurface(device, model, plane, set, {
      grid: 3,
      precision,
      onProgress: (done) => seen.push(done),
    })
    expect(seen.at(-1)).toBe(9)
    expect(surface.x[1]).toBe(0)
    const reach = Math.max(...plane.path.map(({ x }) => Math.abs(x)))
    expect(surface.x[2]).toBeCloseTo(1.25 * reach, 12)
    for (const [j, y] of surface.y.entries()) {
      for (const [i, x] of surface.x.entries()) {
        const point = plane.center.map(
          (c, k) => c + x * plane.directions[0][k] + y * plane.directions[1][k],
        )
        const direct = await evaluate(device, model, point, set, { precision })
        expect(surface.loss[j * 3 + i]).toBeCloseTo(direct.loss, 12)
        expect(surface.accuracy?.[j * 3 + i]).toBeCloseTo(direct.accuracy as number, 12)
      }
    }
    const middle = await evaluate(device, model, plane.center, set, { precision })
    expect(surface.loss[4]).toBe(middle.loss)
  })

  it('runs in f32 with half widths of its own', async () => {
    const n = model.size
    const directions = [0, 1].map((k) => Float64Array.from({ length: n }, (_, i) => +(i === k)))
    const plane = { center: model.init(3), directions: directions as [Float64Array, Float64Array] }
    const surface = await lossSurface(device, model, plane, set, { grid: 5, halfWidths: [1, 2] })
    expect([...surface.x]).toEqual([-1, -0.5, 0, 0.5, 1])
    expect([...surface.y]).toEqual([-2, -1, 0, 1, 2])
    expect(surface.roughness.triples).toBe(30)
  })

  it('refuses grids and planes that are none', async () => {
    const { checkpoints } = await trained()
    const plane = await pcaPlane(checkpoints)
    const refused = (options: object, expected: string) =>
      expect(lossSurface(device, model, plane, set, options)).rejects.toEqual(code(expected))
    await refused({ grid: 4 }, 'ERR_ARGUMENT')
    await refused({ grid: 1 }, 'ERR_ARGUMENT')
    await refused({ span: -1 }, 'ERR_ARGUMENT')
    await refused({ span: '2' }, 'ERR_ARGUMENT')
    await refused({ halfWidths: [1, 0] }, 'ERR_ARGUMENT')
    await refused({ spam: 1 }, 'ERR_ARGUMENT')
    const run = (other: object) =>
      lossSurface(device, model, other as typeof plane, set, { grid: 3 })
    await expect(run({ ...plane, path: undefined })).rejects.toThrow('halfWidths')
    await expect(run({})).rejects.toEqual(code('ERR_ARGUMENT'))
    await expect(run({ ...plane, center: [1] })).rejects.toEqual(code('ERR_SHAPE'))
    const center = plane.center.map(() => Number.NaN)
    await expect(run({ ...plane, center })).rejects.toEqual(code('ERR_NOT_FINITE'))
    await refused({ signal: AbortSignal.abort() }, 'ERR_ABORTED')
  })
})

describe('surfaceRoughness()', () => {
  const grid = (f: (x: number, y: number) => number, side = 9): number[] =>
    Array.from({ length: side * side }, (_, k) => f(k % side, Math.floor(k / side)))

  it('is 0 for exponentials of planes, and 4 on a chessboard', () => {
    expect(
      surfaceRoughness(
        grid((x, y) => Math.exp(x - 2 * y)),
        9,
      ).index,
    ).toBeCloseTo(0, 20)
    const chess = surfaceRoughness(
      grid((x, y) => Math.exp((x + y) % 2)),
      9,
    )
    expect(chess.index).toBeCloseTo(4, 12)
    expect(chess.extrema).toBe(1)
    expect(chess.triples).toBe(2 * 7 * 9)
  })

  it('does not change when the loss is scaled or raised to a power', () => {
    const loss = grid((x, y) => 1 + Math.sin(x) ** 2 + y)
    const { index, extrema } = surfaceRoughness(loss, 9)
    const scaled = surfaceRoughness(
      loss.map((l) => 7 * l ** 3),
      9,
    )
    expect(scaled.index).toBeCloseTo(index, 12)
    expect(scaled.extrema).toBe(extrema)
    expect(index).toBeGreaterThan(
      surfaceRoughness(
        grid((x, y) => 1 + x + y),
        9,
      ).index,
    )
  })

  it('leaves out what is not finite, and has none for a constant', () => {
    const loss = grid((x, y) => Math.exp(x + y))
    loss[40] = Number.POSITIVE_INFINITY
    loss[0] = Number.NaN
    loss[1] = 0
    const { index, triples } = surfaceRoughness(loss, 9)
    expect(index).toBeCloseTo(0, 20)
    // Six at the centre; three in the corner and its neighbour.
    expect(triples).toBe(2 * 7 * 9 - 6 - 2 - 2)
    expect(
      surfaceRoughness(
        grid(() => 2),
        9,
      ).index,
    ).toBeNaN()
    expect(() => surfaceRoughness([1, 2, 3], 2)).toThrow('divisor')
    expect(() => surfaceRoughness(null as never, 2)).toThrow('array of numbers')
  })
})
