import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { compileProgram } from '../../lib/device/compile.js'
import { type Device, open } from '../../lib/device/device.js'
import { LosscapeError } from '../../lib/errors.js'
import type {
  LanczosSpec,
  NativeLanczos,
  NativeOperator,
  NativeTrainer,
  OperatorSpec,
  TrainerSpec,
} from '../../lib/native.js'
import { mul, sum } from '../../lib/ops/index.js'
import { trace } from '../../lib/program/index.js'
import { codeOf, view } from './support.js'

let device: Device
beforeAll(async () => {
  device = await open()
})
afterAll(() => device.dispose())

const STORAGE = 64
const segments = () => ({ offsets: Float64Array.of(0), lengths: Float64Array.of(STORAGE) })
const buffer = () => device.binding.createBuffer(STORAGE * 4)
const square = () =>
  compileProgram(
    device,
    trace((v) => mul(v, v), [[STORAGE]]),
  )

const operatorSpec = (): OperatorSpec => ({
  dtype: 'f32',
  storage: STORAGE,
  segments: segments(),
  scale: 1,
  primalInputs: [[]],
  linear: [{ tangents: 1, executable: square() }],
  linearInputs: [{ kind: 'tangent', index: 0 }],
  chunkInputs: [[]],
  linearOutputs: [0],
  keepBytes: 0,
})

const lanczosSpec = (): LanczosSpec => ({
  dtype: 'f32',
  storage: STORAGE,
  segments: segments(),
  maxSteps: 4,
  reorthogonalize: 'cgs2',
  breakdown: 1e-6,
  onBreakdown: 'restart',
  seed: 1,
  stream: 0,
})

const trainerSpec = (): TrainerSpec => ({
  dtype: 'f32',
  storage: STORAGE,
  segments: {
    ...segments(),
    learningRateFactor: Float64Array.of(1),
    decay: Float64Array.of(0),
    frozen: Uint8Array.of(0),
  },
  optimizer: {
    kind: 'sgd',
    momentum: 0,
    dampening: 0,
    nesterov: false,
    beta1: 0.9,
    beta2: 0.999,
    epsilon: 1e-8,
    clipNorm: Number.POSITIVE_INFINITY,
  },
  theta: buffer(),
  moments: [],
  // Loss, number of correct samples, gradient.
  executable: compileProgram(
    device,
    trace((x) => [sum(mul(x, x)), sum(x), mul(x, x)], [[STORAGE]]),
  ),
  inputs: [{ kind: 'theta', index: 0 }],
  fixed: [],
  batch: 1,
  seed: 0,
  gradientOffsets: [0],
})

const POISON: unknown[] = [
  undefined,
  null,
  Number.NaN,
  -1,
  0.5,
  1e300,
  2 ** 53,
  2 ** 40,
  1,
  0,
  'x',
  {},
  [],
  [[]],
  [1e9],
  [-1],
  Float64Array.of(1e300),
  Float64Array.of(Number.NaN, -1),
  new Float64Array(0),
  () => 0,
]

/** A copy with one field, at any depth, replaced. */
function* corrupted(value: unknown): Generator<unknown> {
  for (const poison of POISON) yield poison
  if (ArrayBuffer.isView(value) || typeof value !== 'object' || value === null) return
  if (Object.getPrototypeOf(value) !== Object.prototype && !Array.isArray(value)) return
  for (const key of Object.keys(value) as (keyof typeof value)[]) {
    for (const replaced of corrupted(value[key])) {
      yield Array.isArray(value)
        ? value.map((item, i) => (String(i) === key ? replaced : item))
        : { ...(value as object), [key]: replaced }
    }
  }
}

/** Makes a handle of every corrupted specification, uses those that come out, counts refusals. */
async function probe<T extends { dispose(): void }>(
  spec: unknown,
  make: (spec: never) => T,
  use: (handle: T) => Promise<unknown>,
): Promise<number> {
  let refused = 0
  for (const wrong of corrupted(spec)) {
    let handle: T
    try {
      handle = make(wrong as never)
    } catch (error) {
      expect((error as { code?: string }).code).toMatch(/^ERR_/)
      refused++
      continue
    }
    const code = await codeOf(Promise.resolve().then(() => use(handle)))
    expect(code).toMatch(/^resolved$|^ERR_/)
    handle.dispose()
  }
  return refused
}

describe('the addon', () => {
  it('runs the specifications that the next test corrupts', async () => {
    const { binding } = device
    const vector = buffer()
    await vector.write(0, new Float32Array(STORAGE).fill(2))
    const operator = binding.createOperator(operatorSpec())
    const out = buffer()
    await operator.apply(view(vector), view(out), 1)
    const product = new Float32Array(STORAGE)
    await out.read(0, product)
    expect([...product]).toEqual(new Array(STORAGE).fill(4))
    const lanczos = binding.createLanczos(lanczosSpec())
    await lanczos.start(view(vector))
    expect((await lanczos.run(operator, 1)).steps).toBe(1)
    const trainer = binding.createTrainer(trainerSpec())
    const result = await trainer.run({
      from: 0,
      to: 1,
      rows: Int32Array.of(0),
      weights: Float32Array.of(1),
      learningRates: Float64Array.of(0.1),
    })
    expect([...result.losses]).toEqual([0])
    for (const handle of [operator, lanczos, trainer, vector, out]) handle.dispose()
    expect(() => operator.keptBytes).toThrow(/disposed/)
    expect(() => lanczos.state()).toThrow(/disposed/)
  })

  it('takes further linear programs only where they fit', async () => {
    const { binding } = device
    const operator = binding.createOperator(operatorSpec())
    const pair = compileProgram(
      device,
      trace((v) => mul(v, v), [[2, STORAGE]]),
    )
    const codes = [
      () => operator.addLinear(1, square()),
      () => operator.addLinear(2, square()),
      () => operator.addLinear(3, pair),
      () => operator.addLinear(2 ** 40, pair),
      () => operator.addLinear(2, {} as never),
      () => binding.createDenseOperator(new Float64Array(16), 4, 'f32').addLinear(2, pair),
    ].map((call) => {
      try {
        call()
        return 'none'
      } catch (error) {
        return (error as LosscapeError).code
      }
    })
    expect(codes).toEqual([
      ...['ERR_ARGUMENT', 'none', 'ERR_SHAPE', 'ERR_ARGUMENT', 'ERR_ARGUMENT', 'ERR_ARGUMENT'],
    ])
    operator.dispose()
  })

  it('answers every corrupted specification with a coded error or a result', async () => {
    const { binding } = device
    binding.setMemoryLimit(binding.memory().bytes + 2 ** 26)
    const x = buffer()
    const y = buffer()
    try {
      const refused = [
        await probe<NativeOperator>(operatorSpec(), binding.createOperator, (operator) =>
          operator.apply(view(x), view(y), 1),
        ),
        await probe<NativeLanczos>(lanczosSpec(), binding.createLanczos, async (lanczos) => {
          const state = lanczos.state()
          expect(await codeOf(lanczos.restore({ ...state, steps: 3 }))).toBe('ERR_SHAPE')
          await lanczos.start(view(x))
        }),
        await probe<NativeTrainer>(trainerSpec(), binding.createTrainer, (trainer) =>
          trainer.run({
            from: 0,
            to: 1,
            rows: Int32Array.of(0),
            weights: Float32Array.of(1),
            learningRates: Float64Array.of(0.1),
          }),
        ),
      ]
      for (const count of refused) expect(count).toBeGreaterThan(50)
    } finally {
      binding.setMemoryLimit(0)
      x.dispose()
      y.dispose()
    }
  })

  it('throws and rejects with instances of LosscapeError', async () => {
    const { binding } = device
    const caught = (body: () => unknown): unknown => {
      try {
        return body()
      } catch (error) {
        return error
      }
    }
    const thrown = caught(() => binding.createBuffer(-1))
    expect(thrown).toBeInstanceOf(LosscapeError)
    expect(thrown).toMatchObject({
      code: 'ERR_ARGUMENT',
      message: expect.stringContaining('non-negative integer'),
    })
    const x = buffer()
    const token = binding.createToken()
    token.cancel()
    const rejected = await x.clear({ token }).catch((error: unknown) => error)
    expect(rejected).toBeInstanceOf(LosscapeError)
    expect(rejected).toMatchObject({ code: 'ERR_ABORTED' })
    expect(caught(() => binding.setErrorClass(1 as never))).toMatchObject({ code: 'ERR_ARGUMENT' })
    x.dispose()
  })

  it('checks the arguments of its functions', async () => {
    const { binding } = device
    const x = buffer()
    const table = segments()
    const calls: (() => unknown)[] = [
      () => binding.dot(view(x), view(x), STORAGE + 1, 'f32'),
      () => binding.dot(view(x), view(x), STORAGE, 'f64'),
      () => binding.dot(view(x), view(x), 2 ** 53, 'f32'),
      () => binding.dot(view(x), view(x), 1, 'bf16' as 'f32'),
      () => binding.fillProbe(view(x, 4), 'f32', table, 'normal', 0, 0),
      () => binding.dot(view(x, 2), view(x), 1, 'f32'),
      () => binding.dot(view(x), view(x, 4), 1, 'f64'),
      () => binding.fillProbe(view(x), 'f64', table, 'normal', 0, 0),
      () => binding.fillProbe(view(x), 'f32', table, 'cauchy' as 'normal', 0, 0),
      () => binding.symmetricEigen(new Float64Array(4), 3, true),
      () => binding.symmetricEigen(new Float64Array(0), 0, true),
      () => binding.symmetricEigen(Float64Array.of(1, Number.NaN, 0, 1), 2, true),
      () => binding.symmetricEigen(Float64Array.of(Number.POSITIVE_INFINITY), 1, false),
      () => binding.createDenseOperator(new Float64Array(4), 3, 'f32'),
      () => binding.createDenseOperator(new Float64Array(4), 2 ** 53, 'f32'),
      () => binding.createDenseOperator(new Float32Array(8) as unknown as Float64Array, 2, 'f32'),
      () => binding.setThreads(0),
      () => binding.compile([], new Float64Array()),
      () => binding.compile('x' as unknown as string[], new Float64Array()),
      () => binding.compile([], [1] as unknown as Float64Array),
      () => binding.gemmRate(0, 'f32', 1),
      () => binding.reorthogonalizationTime(2 ** 50, 1, 1, 1),
    ]
    for (const call of calls) {
      const code = await codeOf(Promise.resolve().then(call))
      expect(code).toMatch(/^ERR_/)
    }
    x.dispose()
  })
})
