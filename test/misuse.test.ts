import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import * as losscape from '../lib/index.js'
import { type Device, data, LosscapeError, models, open, operatorFrom, ops } from '../lib/index.js'

/**
 * Whatever is passed where something else belongs, a public function answers with a LosscapeError
 * (or with a result, where the value happens to make sense), never with a raw error of the engine.
 */

const device: Device = await open({ threads: 1 })
const folder = mkdtempSync(join(tmpdir(), 'losscape-misuse-'))
beforeAll(() => process.on('warning', () => {}))
afterAll(() => {
  device.dispose()
  rmSync(folder, { recursive: true })
})

const set = data.blobs({ n: 20, dim: 3, classes: 2 })
const model = models.mlp({ input: 3, hidden: [2], classes: 2 })
const params = model.init(0)
const operator = operatorFrom((v) => v, 4)
const measure = { nodes: [[0, 1]], weights: [[0.5, 0.5]] }
const program = losscape.trace((x) => ops.exp(x), [[2]])
const optimizer = { kind: 'sgd', lr: 0.1 } as const
const recorded = { spec: 'blobs', normalization: set.normalization }
const transformer = losscape.models.vit({
  ...{ input: [1, 2, 2], patch: 2, width: 2, depth: 1, heads: 1, classes: 2 },
  attention: 'karat:G1B,r1',
})
const looks = transformer.init(0)
const pictures = data.fromArrays([[0, 1, 2, 3]], [1], { classes: 2 })
const [matrices] = await losscape.attentionMatrices(
  device,
  transformer,
  looks,
  { ...pictures, shape: [2, 2] },
  {},
)
const file = (name: string): string => join(folder, name)

/** Callable as it stands; every argument, and every field of an options object, is then replaced. */
const CALLS: [name: string, f: (...args: never[]) => unknown, ...args: unknown[]][] = [
  ['open', open, { device: 'cpu', threads: 1, memoryLimit: 0 }],
  ['compile', losscape.compile, device, program, { precision: 'f32' }],
  ['chromeTrace', losscape.chromeTrace, [{ name: 'exp', milliseconds: 1, calls: 1 }]],

  ['data.load', data.load, 'blobs?n=8', { split: 'train', limit: 4, normalization: 'none' }],
  [
    'data.fromArrays',
    data.fromArrays,
    [[0, 1]],
    [0],
    { classes: 2, name: 'a', normalization: 'none' },
  ],
  [
    'data.fromIterable',
    data.fromIterable,
    [{ input: [0], target: 1 }],
    { classes: 2, limit: 1, signal: new AbortController().signal },
  ],
  ['data.validate', data.validate, set],
  ['data.statistics', data.statistics, set],
  ['data.standardize', data.standardize, set],
  ['data.withNormalization', data.withNormalization, set, 'none'],
  ['data.normalizedInputs', data.normalizedInputs, set, [0, 1], new Float32Array(6)],
  ['data.oneHot', data.oneHot, set, 0.1],
  ['data.subset', data.subset, set, { indices: [1, 2], classes: [0, 1], limit: 2, seed: 1 }],
  ['data.subset', data.subset, set, { fraction: 0.5, seed: 1 }],
  ['data.take', data.take, set, [0, 1]],
  ['data.split', data.split, set, 0.5, 1],
  ['data.labelNoise', data.labelNoise, set, 0.5, 1],
  ['data.blobs', data.blobs, { n: 4, test: 2, classes: 2, dim: 2, std: 1, seed: 1, split: 'test' }],
  ['data.circles', data.circles, { n: 4, noise: 0.1, factor: 0.5 }],
  ['data.moons', data.moons, { n: 4, noise: 0.1 }],
  ['data.spirals', data.spirals, { n: 4, classes: 2, turns: 1, noise: 0.1 }],
  ['data.teacher', data.teacher, { n: 4, dim: 2, width: 3, classes: 0, outputs: 1, noise: 0.1 }],
  ['data.glyphs', data.glyphs, { n: 4, noise: 3, inverted: 0.5 }],
  ['data.channelCount', data.channelCount, [3]],
  ['data.readIdx', data.readIdx, file('none')],
  ['data.readMnist', data.readMnist, file('none'), 'train', {}],
  ['data.readCifar', data.readCifar, file('none'), 'train', {}],
  ['data.readCsv', data.readCsv, file('none'), { label: 0 }],
  ['data.readNpy', data.readNpy, file('none')],
  ['data.readNpz', data.readNpz, file('none')],
  ['data.writeNpy', data.writeNpy, file('x.npy'), new Float32Array(2), [2]],

  [
    'models.mlp',
    models.mlp,
    {
      input: [3],
      hidden: [2],
      classes: 2,
      activation: 'relu',
      bias: true,
      layerNorm: false,
      dropout: 0,
      init: 'pytorch',
    },
  ],
  ['models.parse', models.parse, 'mlp:3-2', { input: [3], options: { bias: false } }],
  [
    'models.define',
    models.define,
    {
      name: 'line',
      input: [1],
      output: [1],
      parameters: [{ name: 'w', shape: [1, 1], init: { kind: 'zeros' } }],
      apply: (p: { w: losscape.Tensor }, x: losscape.Tensor) => ops.matmul(x, p.w),
    },
  ],
  ['model.init', (seed: number) => model.init(seed), 0],
  ['layout.match', (pattern: string) => model.layout.match(pattern), '*'],
  ['layout.entry', (name: string) => model.layout.entry(name), 'layers.0.weight'],

  [
    'train',
    losscape.train,
    device,
    model,
    set,
    {
      optimizer,
      loss: 'cross-entropy',
      schedule: 'constant',
      epochs: 1,
      batch: 10,
      seed: 0,
      params,
      clipNorm: 1,
      precision: 'f32',
      test: set,
      shuffle: true,
      dropLast: false,
      checkpointEvery: 1,
      onCheckpoint: () => {},
      onMetrics: () => {},
      onProgress: () => {},
      signal: new AbortController().signal,
    },
  ],
  ['evaluate', losscape.evaluate, device, model, params, set, { loss: 'cross-entropy', batch: 8 }],
  [
    'predictor',
    (...args: Parameters<typeof losscape.predictor>) => losscape.predictor(...args).dispose(),
    device,
    model,
    params,
    { set, output: 'logits', maxBatch: 4, microBatch: { maxDelayMs: 1 }, precision: 'f32' },
  ],
  [
    'predict',
    async (x: number[], options: object) => {
      using p = losscape.predictor(device, model, params, { set })
      return [await p.predict(x, options), await p.predictMany(x, options)]
    },
    [0, 1, 2],
    { signal: new AbortController().signal },
  ],
  ['saveModel', losscape.saveModel, file('m.safetensors'), model, params],
  ['loadModel', losscape.loadModel, file('m.safetensors'), model],
  ['loadCheckpoint', losscape.loadCheckpoint, file('m.safetensors'), model],
  ['saveCheckpoint', losscape.saveCheckpoint, file('c.safetensors'), model, { params }],
  [
    'createRun',
    losscape.createRun,
    file('run'),
    { model, data: recorded, training: {}, seed: 0, overwrite: true },
  ],
  ['openRun', losscape.openRun, file('run'), { model }],

  ...([losscape.hessian, losscape.gaussNewton, losscape.remainder] as const).map(
    (make): (typeof CALLS)[number] => [
      make.name,
      (...args: Parameters<typeof losscape.hessian>) => make(...args).dispose(),
      device,
      model,
      params,
      set,
      {
        loss: 'cross-entropy',
        batch: 10,
        precision: 'f32',
        params: '*',
        weightDecay: 0,
        reduction: 'mean',
        keepBytes: 2 ** 20,
        tangents: 2,
      },
    ],
  ),
  [
    'products',
    async (v: number[], vs: number[], count: number, options: object) => {
      using h = losscape.hessian(device, models.mlp({ input: 3, hidden: [], classes: 2 }), v, set)
      return [await h.matvec(v, options), await h.matmat(vs, count, options)]
    },
    new Array(8).fill(0.5),
    new Array(16).fill(0.5),
    2,
    { signal: new AbortController().signal, onProgress: () => {} },
  ],
  ['operatorFrom', losscape.operatorFrom, (v: Float64Array) => v, 4, { dtype: 'f64' }],
  [
    'denseOperator',
    (...args: Parameters<typeof losscape.denseOperator>) =>
      losscape.denseOperator(...args).dispose(),
    device,
    [1],
    { dtype: 'f32' },
  ],
  ['checkOperator', losscape.checkOperator, operator, { seed: 0 }],
  [
    'lanczos',
    losscape.lanczos,
    operator,
    {
      k: 2,
      which: 'largest',
      tol: 1e-3,
      maxSteps: 4,
      seed: 0,
      start: [1, 2, 3, 4],
      vectors: true,
      reorthogonalize: 'cgs2',
      checkpointEvery: 2,
      checkEvery: 2,
      check: true,
      onCheckpoint: () => {},
      onProgress: () => {},
    },
  ],
  [
    'slq',
    losscape.slq,
    operator,
    { probes: 1, steps: 2, seed: 0, reorthogonalize: 'cgs2', check: true, onProbe: () => {} },
  ],
  ['slq resumed', losscape.slq, operator, { probes: 1, steps: 2, resume: measure }],
  [
    'hutchinsonTrace',
    losscape.hutchinsonTrace,
    operator,
    { products: 2, tol: 0.1, distribution: 'normal', seed: 0, onProgress: () => {} },
  ],
  ['shifted', losscape.shifted, operator, 1],
  ['scaled', losscape.scaled, operator, 2],
  ['negated', losscape.negated, operator],
  ['squared', losscape.squared, operator],
  [
    'summed',
    (term: object, rankOne: object, options: object) =>
      losscape.summed([term as losscape.SumTerm], {
        ...options,
        rankOne: [rankOne as losscape.RankOneTerm],
      }),
    { operator, factor: 1 },
    { vector: [1, 2, 3, 4], factor: 1 },
    {},
  ],
  ['summed lists', losscape.summed, [{ operator }], { rankOne: [{ vector: [1, 2, 3, 4] }] }],
  ['masked', losscape.masked, operator, [0, 1, 1, 0]],
  ['preconditioned', losscape.preconditioned, operator, [1, 2, 3, 4]],
  [
    'inverse',
    async (base: losscape.LinearOperator, options: object, v: number[]) =>
      losscape.inverse(base, options).matvec(v),
    operator,
    {
      damping: 0.1,
      tol: 0.1,
      maxIterations: 5,
      preconditioner: [1, 1, 1, 1],
      allowUnconverged: false,
    },
    [1, 2, 3, 4],
  ],
  [
    'finiteDifference',
    losscape.finiteDifference,
    (theta: ArrayLike<number>) => theta,
    [1, 2],
    { step: 0.1, dtype: 'f64' },
  ],
  [
    'powerIteration',
    losscape.powerIteration,
    operator,
    { k: 2, tol: 0.1, maxIterations: 3, seed: 0, deflate: [[1, 0, 0, 0]], onProgress: () => {} },
  ],
  [
    'subspaceIteration',
    losscape.subspaceIteration,
    operator,
    { k: 2, oversampling: 1, tol: 0.1, maxIterations: 3, seed: 0, check: true },
  ],
  [
    'lobpcg',
    losscape.lobpcg,
    operator,
    {
      k: 2,
      which: 'largest',
      tol: 0.1,
      maxIterations: 3,
      seed: 0,
      start: [[1, 0, 0, 0]],
      preconditioner: [1, 1, 1, 1],
    },
  ],
  ['denseMatrix', losscape.denseMatrix, operator, { onProgress: () => {} }],
  ['exactSpectrum', losscape.exactSpectrum, operator, { vectors: true }],
  ...(
    [
      losscape.blockLanczos,
      losscape.lobpcg,
      losscape.powerIteration,
      losscape.subspaceIteration,
    ] as const
  ).map((solve): (typeof CALLS)[number] => [
    solve.name,
    solve,
    operator,
    { k: 1, tol: 1e-2, seed: 0, check: false, onProgress: () => {} },
  ]),
  ['operatorTrace', losscape.operatorTrace, operator, { seed: 0 }],
  ['diagonal', losscape.diagonal, operator, { seed: 0 }],
  ['frobenius', losscape.frobenius, operator, { seed: 0 }],
  ['spectralNorm', losscape.spectralNorm, operator, { seed: 0, onProgress: () => {} }],
  ['checkOperator', losscape.checkOperator, operator, { seed: 0, onProgress: () => {} }],
  ['shifted', losscape.shifted, operator, 2],
  ['scaled', losscape.scaled, operator, 2],
  ['negated', losscape.negated, operator],
  ['squared', losscape.squared, operator],
  ['masked', losscape.masked, operator, [1, 0, 1, 0]],
  ['preconditioned', losscape.preconditioned, operator, [1, 1, 1, 1]],
  ['inverse', losscape.inverse, operator, { damping: 1 }],
  [
    'classStructure',
    losscape.classStructure,
    device,
    model,
    params,
    set,
    { loss: 'cross-entropy', batch: 8, precision: 'f32', params: '*' },
  ],
  ['gaussNewtonDiagonal', losscape.gaussNewtonDiagonal, device, model, params, set, { batch: 8 }],
  ['linePath', losscape.linePath, device, model, params, params, set, { points: 3, batch: 8 }],
  ...(
    [
      { rule: 'gap', classes: 2 },
      { rule: 'energy', classes: 2, share: 0.5 },
      { rule: 'edge', kappa: 3 },
      { rule: 'edge', ratio: 2 },
      { rule: 'threshold', threshold: 1, relative: true, magnitude: true },
      { rule: 'class-structure', reference: [1], tolerance: 0.1 },
    ] as const
  ).map((options): (typeof CALLS)[number] => [
    `countOutliers ${options.rule}`,
    losscape.countOutliers,
    [3, 1, 2],
    options,
  ]),
  ['countOutliers of a measure', losscape.countOutliers, measure, { rule: 'edge', size: 4 }],
  ['subspaceOverlap', losscape.subspaceOverlap, [[1, 0]], [[1, 1]], {}],
  ['gradientOverlap', losscape.gradientOverlap, [1, 2], [[1, 1]], {}],
  [
    'decompositionGap',
    losscape.decompositionGap,
    { hessian: operator, gaussNewton: operator, remainder: operator },
    { exactUpTo: 2, probes: 2, steps: 2, seed: 0, onProgress: () => {} },
  ],
  ['pcaPlane', losscape.pcaPlane, [[0], [1, 2], [2]], {}],
  [
    'lossSurface',
    losscape.lossSurface,
    device,
    model,
    { center: params, directions: [params, params] },
    set,
    { grid: 3, span: 1, halfWidths: [1, 1], loss: 'cross-entropy', batch: 8, precision: 'f32' },
  ],
  ['surfaceRoughness', losscape.surfaceRoughness, [1, 2, 3, 4], 2],
  ['singularValues', losscape.singularValues, { rows: 1, columns: 2, data: [1, 2] }, {}],
  [
    'lowRankSingularValues',
    losscape.lowRankSingularValues,
    { rows: 2, columns: 1, data: [1, 2] },
    { rows: 1, columns: 1, data: [1] },
    {},
  ],
  ['histogram', losscape.histogram, [1, 2], { bins: 3, range: 1 }],
  ['weightHistograms', losscape.weightHistograms, [{ name: 'a', params }], { bins: 3, range: 1 }],
  ['headHistograms', losscape.headHistograms, transformer, looks, { bins: 3, range: 1 }],
  ['attentionAnatomy', losscape.attentionAnatomy, transformer],
  ['attentionCounts', losscape.attentionCounts, transformer],
  [
    'attentionMatrices',
    losscape.attentionMatrices,
    device,
    transformer,
    looks,
    pictures,
    { images: [0], blocks: [0], precision: 'f32' },
  ],
  [
    'attentionSpectrum',
    losscape.attentionSpectrum,
    matrices,
    { tolerance: 0.1, method: 'full', onProgress: () => {} },
  ],
  [
    'attentionMaps',
    losscape.attentionMaps,
    matrices,
    losscape.attentionAnatomy(transformer),
    { kind: 'scores', mass: 0.5 },
  ],
  [
    'attentionCost',
    losscape.attentionCost,
    device,
    transformer,
    pictures,
    { batch: 1, repeats: 0, loss: 'cross-entropy', precision: 'f32' },
  ],
  [
    'attentionStudent',
    losscape.attentionStudent,
    transformer,
    { input: [1, 2, 2], patch: 2, width: 2, depth: 1, heads: 1, classes: 2 },
  ],
  [
    'attentionTransferSet',
    losscape.attentionTransferSet,
    device,
    transformer,
    looks,
    pictures,
    { batch: 1 },
  ],
  ['density', losscape.density, measure, { convention: 'ours', grid: 64, range: [0, 1], width: 1 }],
  ['symmetricLogDensity', losscape.symmetricLogDensity, measure, { points: 64, width: 1 }],
  ['cumulative', losscape.cumulative, measure, [0.5]],
  ['functional', losscape.functional, measure, (t: number) => t, 4],
  ['wasserstein1', losscape.wasserstein1, measure, measure],
  ['tridiagonalEigen', losscape.tridiagonalEigen, [1, 2], [0.5], { vectors: 'full' }],

  ['trace', losscape.trace, (x: losscape.Tensor) => ops.exp(x), [[2]], ['x']],
  ...(['sum', 'mean', 'max', 'min'] as const).map((name): (typeof CALLS)[number] => [
    `ops.${name}`,
    (axes: number[]) => losscape.trace((x) => ops[name](x, axes), [[2, 3]]),
    [0],
  ]),
  ...(['logsumexp', 'argmax', 'softmax', 'logSoftmax'] as const).map(
    (name): (typeof CALLS)[number] => [
      `ops.${name}`,
      (axis: number) => losscape.trace((x) => ops[name](x, axis), [[2, 3]]),
      0,
    ],
  ),
  ['verify', losscape.verify, program],
  ['formatProgram', losscape.formatProgram, program],
  ['simplify', losscape.simplify, program],
  ['evaluateReference', losscape.evaluateReference, program, [[1, 2]]],
  ['jvpProgram', losscape.jvpProgram, program, [true]],
  ['vjpProgram', losscape.vjpProgram, program, [true]],
  ['vmapProgram', losscape.vmapProgram, program, [true], 2],
  ['linearizeProgram', losscape.linearizeProgram, program, [true]],
  ['tapNames', losscape.tapNames, program],
]

const GARBAGE: unknown[] = [
  undefined,
  null,
  '',
  // A path would be written to.
  file('x'),
  0,
  -1,
  1.5,
  Number.NaN,
  Number.POSITIVE_INFINITY,
  true,
  10n,
  {},
  { length: -1 },
  { length: 'x' },
  [],
  [null],
  ['x'],
  [[]],
  new Date(0),
  new Float32Array(0),
  BigInt64Array.of(1n),
  () => {
    throw new LosscapeError('ERR_ARGUMENT', 'A function of the caller.')
  },
  Promise.resolve(1),
]

const isOptions = (value: unknown): value is object =>
  typeof value === 'object' && value !== null && Object.getPrototypeOf(value) === Object.prototype

/** Argument lists that differ from the right one in an argument or a field of one. */
function* wrong(args: readonly unknown[]): Generator<[what: string, args: unknown[]]> {
  for (const [i, arg] of args.entries()) {
    for (const bad of GARBAGE) {
      yield [`argument ${i} ${String(bad)}`, args.with(i, bad)]
      // Of a program only the whole is replaced: it comes from trace().
      if (!isOptions(arg) || arg === program) continue
      for (const key of Object.keys(arg)) {
        yield [`${key} ${display(bad)}`, args.with(i, { ...arg, [key]: bad })]
      }
    }
  }
}

const display = (value: unknown): string =>
  value !== null && typeof value === 'object' ? value.constructor.name : String(value)

async function outcome(f: (...args: never[]) => unknown, args: unknown[]): Promise<unknown> {
  try {
    await f(...(args as never[]))
    return null
  } catch (error) {
    return error
  }
}

describe.each(CALLS.map((call) => ({ name: call[0], call })))('$name', ({ call }) => {
  const [, f, ...args] = call

  it('answers wrong arguments with coded errors', async () => {
    const raw: string[] = []
    for (const [what, bad] of wrong(args)) {
      const error = await outcome(f, bad)
      if (error !== null && !(error instanceof LosscapeError)) raw.push(`${what}: ${String(error)}`)
    }
    expect(raw).toEqual([])
  }, 60_000)
})

describe('sizes that no machine has', () => {
  const huge = 2 ** 40
  const wide = models.mlp({ input: 3, hidden: [2 ** 22, 2 ** 22], classes: 2 })
  const large = operatorFrom((v) => v, huge)
  it.each<[string, () => unknown]>([
    ['init', () => wide.init(0)],
    ['train', () => losscape.train(device, wide, set, { optimizer })],
    ['blobs', () => data.blobs({ n: huge })],
    ['moons', () => data.moons({ n: huge })],
    ['teacher', () => data.teacher({ n: huge })],
    ['glyphs', () => data.glyphs({ n: huge })],
    ['load', () => data.load(`spirals?n=${huge}`)],
    ['matvec', () => large.matvec({ length: huge } as never)],
    ['density', () => losscape.density(measure, { grid: huge })],
    ['google density', () => losscape.density(measure, { grid: huge, convention: 'google' })],
    ['countOutliers', () => losscape.countOutliers(measure, { rule: 'gap', size: huge })],
    ['lanczos', () => losscape.lanczos(large, { check: false })],
    ['slq', () => losscape.slq(large, { check: false })],
    ['hutchinsonTrace', () => losscape.hutchinsonTrace(large)],
    ['checkOperator', () => losscape.checkOperator(large)],
    [
      'compile',
      () =>
        losscape.compile(
          device,
          losscape.trace((x) => ops.exp(x), [[huge]]),
        ),
    ],
  ])('%s says how much is missing', async (_, call) => {
    const error = await outcome(call, [])
    expect(error).toBeInstanceOf(LosscapeError)
    expect((error as LosscapeError).code).toMatch(/^ERR_(OUT_OF_MEMORY|ARGUMENT|NOT_FINITE)$/)
  })
})

describe('Executable.run', () => {
  const types = (dtype: 'i32' | 'u8') =>
    losscape.compile(
      device,
      losscape.trace((x) => ops.cast(x, 'f32'), [{ dtype, shape: [3] }]),
    )

  it.each([
    ['u8', [0, 256, 1], 'element 1 must be an integer from 0 to 255, got 256'],
    ['u8', [0, 1, -1], 'element 2'],
    ['u8', [0, 1, 0.5], 'element 2'],
    ['u8', Float32Array.of(Number.NaN, 0, 0), 'element 0'],
    ['i32', [2 ** 31, 0, 0], 'element 0 must be an integer from -2147483648 to 2147483647'],
    ['i32', new Uint32Array(3).fill(2 ** 32 - 1), 'element 0'],
    ['i32', [1, 2, 'x'], 'element 2'],
  ] as const)('refuses what %s cannot hold: %s', async (dtype, input, message) => {
    using executable = types(dtype)
    await expect(executable.run([input as never])).rejects.toMatchObject({
      code: 'ERR_RANGE',
      message: expect.stringContaining(message),
    })
  })

  it('takes every integer that fits, from any array', async () => {
    using bytes = types('u8')
    using integers = types('i32')
    expect([...(await bytes.run([[0, 255, 7]]))[0]]).toEqual([0, 255, 7])
    expect([...(await bytes.run([Float64Array.of(0, 255, -0)]))[0]]).toEqual([0, 255, 0])
    const ends = [-(2 ** 31), 2 ** 31 - 1, 0]
    expect([...(await integers.run([ends]))[0]]).toEqual(ends.map(Math.fround))
  })
})
