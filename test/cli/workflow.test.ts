import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { readNpy } from '../../lib/data/npy.js'
import { readSafetensors } from '../../lib/files/safetensors.js'
import { losscape, losscapeJson, temporaryFolder } from './support.js'

const folder = temporaryFolder()
const run = join(folder, 'a')
const data = 'blobs?n=240&test=60&classes=3&dim=4&std=1'

const ends = z.strictObject({ top: z.array(z.number()), bottom: z.array(z.number()) })
const spectrumSchema = z.strictObject({
  n: z.int().positive(),
  samples: z.int().positive(),
  eigenvalues: ends,
  residuals: ends,
  trace: z.strictObject({ value: z.number(), stderr: z.number() }),
  density: z.strictObject({ grid: z.array(z.number()), values: z.array(z.number()) }),
  nodes: z.array(z.array(z.number())),
  weights: z.array(z.array(z.number())),
  time_ms: z.number().positive(),
  device: z.string(),
})
const trainSchema = z.strictObject({
  run: z.string(),
  status: z.literal('completed'),
  n: z.literal(4 * 8 + 8 + 8 * 3 + 3),
  steps: z.literal(6 * 8),
  epochs: z.literal(6),
  lastFiniteLoss: z.number(),
  train: z.strictObject({ loss: z.number(), accuracy: z.number() }),
  test: z.strictObject({ loss: z.number(), accuracy: z.number() }),
  time_ms: z.number(),
  device: z.literal('cpu'),
})

let trained: z.infer<typeof trainSchema>

beforeAll(async () => {
  trained = trainSchema.parse(
    await losscapeJson([
      ...['train', '--model', 'mlp:4-8-3', '--data', data, '--out', run, '--batch', '30'],
      ...['--epochs', '6', '--seed', '1', '--activation', 'tanh'],
    ]),
  )
})

describe('train', () => {
  it('writes the run folder of the contract', async () => {
    const config = JSON.parse(readFileSync(join(run, 'config.json'), 'utf8'))
    expect(Object.keys(config)).toEqual(['model', 'data', 'training', 'seed', 'versions'])
    expect(config.model).toMatchObject({ model: 'mlp:4-8-3', activation: 'tanh' })
    expect(config.data).toMatchObject({ spec: data, normalization: { mean: [0], std: [1] } })
    expect(config.seed).toBe(1)
    const { tensors } = await readSafetensors(join(run, 'model.safetensors'))
    expect([...tensors].map(([name, { shape }]) => [name, shape])).toEqual([
      ['layers.0.weight', [8, 4]],
      ['layers.0.bias', [8]],
      ['layers.1.weight', [3, 8]],
      ['layers.1.bias', [3]],
    ])
    const rows = readFileSync(join(run, 'metrics.jsonl'), 'utf8').trim().split('\n')
    expect(rows.map((row) => JSON.parse(row)).map(({ epoch, split }) => [epoch, split])).toEqual(
      [1, 2, 3, 4, 5, 6].flatMap((epoch) => [
        [epoch, 'train'],
        [epoch, 'test'],
      ]),
    )
    expect(existsSync(join(run, 'checkpoint.safetensors'))).toBe(false)
    expect(trained.test.accuracy).toBeGreaterThan(0.6)
  })

  it('keeps a run that is there, unless told otherwise', async () => {
    const again = ['train', '--model', 'mlp:4-2-3', '--data', data, '--out', run]
    const { status, stderr } = await losscape(again)
    expect(status).toBe(1)
    expect(stderr).toContain('holds a run already')
  })

  it('a finished run has nothing to resume; the result is the same', async () => {
    const resumed = await losscapeJson(['train', '--resume', '--out', run])
    expect(resumed).toEqual(trained)
  })

  it('does not resume with flags that say otherwise', async () => {
    const other = await losscape(['train', '--resume', '--out', run, '--epochs', '7'])
    expect(other.status).toBe(2)
    expect(other.stderr).toContain('--epochs 7 (the run: 6)')
  })

  it('--dry-run tells size, memory and time, and writes nothing', async () => {
    const out = join(folder, 'dry')
    const estimate = await losscapeJson([
      ...['train', '--model', 'mlp:4-8-3', '--data', data, '--out', out, '--dry-run'],
    ])
    expect(estimate).toMatchObject({ n: 67, samples: 240, steps: 2 })
    expect(estimate.memory_bytes).toBeGreaterThan(240 * 4 * 4)
    expect(estimate.time_ms).toBeGreaterThan(0)
    expect(existsSync(out)).toBe(false)
  })

  it('divergence is a result, and exit status 1', async () => {
    const out = join(folder, 'diverged')
    const { status, stdout } = await losscape([
      ...['train', '--model', 'mlp:4-8-3', '--data', data, '--out', out, '--lr', '1e38', '--json'],
    ])
    expect(status).toBe(1)
    expect(JSON.parse(stdout)).toMatchObject({ status: 'diverged' })
  })
})

describe('eval', () => {
  it('agrees with the last test row of the training', async () => {
    const result = await losscapeJson(['eval', run])
    expect(result).toMatchObject({ split: 'test', samples: 60, accuracy: trained.test.accuracy })
    expect(result.loss).toBeCloseTo(trained.test.loss, 5)
  })

  it('takes other data in the normalization of the run', async () => {
    const args = ['eval', run, '--data', 'blobs?n=50&classes=3&dim=4', '--split', 'train']
    expect(await losscapeJson([...args, '--samples', '20'])).toMatchObject({ samples: 20 })
  })
})

describe('spectrum', () => {
  const args = ['spectrum', run, '--top', '4', '--probes', '3', '--steps', '30', '--samples', '100']
  let spectrum: z.infer<typeof spectrumSchema>
  beforeAll(async () => {
    spectrum = spectrumSchema.parse(await losscapeJson(args))
  })

  it('prints exactly the contract, and keeps it in the run folder', () => {
    expect(spectrum).toMatchObject({ n: 67, samples: 100, device: 'cpu' })
    expect(spectrum.eigenvalues.top).toHaveLength(4)
    expect(spectrum.eigenvalues.bottom).toHaveLength(4)
    const { top, bottom } = spectrum.eigenvalues
    expect(top).toEqual([...top].sort((a, b) => b - a))
    expect(bottom).toEqual([...bottom].sort((a, b) => a - b))
    expect(spectrum.nodes).toHaveLength(3)
    for (const weights of spectrum.weights) {
      expect(weights.reduce((sum, w) => sum + w, 0)).toBeCloseTo(1, 6)
    }
    const { grid, values } = spectrum.density
    const spacing = grid[1] - grid[0]
    expect(values.reduce((sum, v) => sum + v, 0) * spacing).toBeCloseTo(1, 3)
    const saved = JSON.parse(readFileSync(join(run, 'spectrum.json'), 'utf8'))
    expect(saved).toMatchObject(spectrum)
    expect(existsSync(join(run, 'spectrum.partial.json'))).toBe(false)
  })

  it('agrees with the dense path', async () => {
    const dense = spectrumSchema.parse(
      await losscapeJson([...args, '--exact', '--dtype', 'f64', '--params', '*']),
    )
    const largest = dense.eigenvalues.top[0]
    for (const end of ['top', 'bottom'] as const) {
      for (const [i, value] of spectrum.eigenvalues[end].entries()) {
        // f32 products: 1e-5 of the largest magnitude.
        expect(Math.abs(value - dense.eigenvalues[end][i])).toBeLessThan(1e-5 * largest)
      }
    }
    expect(dense.trace.stderr).toBe(0)
    expect(Math.abs(spectrum.trace.value - dense.trace.value)).toBeLessThan(
      5 * spectrum.trace.stderr,
    )
  })

  it('finds the same ends in little memory, and with partial reorthogonalisation', async () => {
    // 21 vectors of 128 elements: restarts for the ends, no basis for the probes.
    const small = await losscape([...args, '--params', '*.weight', '--memory', '0.0104', '--json'])
    expect(small.stderr).toContain('probes keep three vectors')
    const how = ['--reorthogonalize', 'partial', '--params', '*.weight']
    const partial = spectrumSchema.parse(await losscapeJson([...args, ...how]))
    const { eigenvalues } = spectrumSchema.parse(JSON.parse(small.stdout))
    for (const [i, value] of partial.eigenvalues.top.entries()) {
      expect(Math.abs(eigenvalues.top[i] - value)).toBeLessThan(1e-4 * partial.eigenvalues.top[0])
    }
    const estimate = await losscapeJson([...args, '--memory', '0.0104', '--dry-run'])
    const all = await losscapeJson([...args, '--dry-run'])
    expect(estimate).toMatchObject({ n: 67 })
    expect((estimate as { products: number }).products).toBeGreaterThan(
      (all as { products: number }).products,
    )
  })

  it('is the same again, and its blocks have files of their own', async () => {
    const again = spectrumSchema.parse(await losscapeJson(args))
    expect({ ...again, time_ms: 0 }).toEqual({ ...spectrum, time_ms: 0 })
    const block = ['--kind', 'gauss-newton', '--params', 'layers.1.*']
    const result = spectrumSchema.parse(await losscapeJson([...args, ...block]))
    expect(result.n).toBe(27)
    // Cross-entropy: the Gauss-Newton matrix is positive semi-definite.
    const { top, bottom } = result.eigenvalues
    expect(bottom[0]).toBeGreaterThan(-1e-5 * top[0])
    expect(existsSync(join(run, 'spectrum-gauss-newton-layers.1.+.json'))).toBe(true)
  })

  it('--dry-run tells products, memory and time', async () => {
    const estimate = await losscapeJson([...args, '--dry-run'])
    expect(estimate).toMatchObject({ n: 67, samples: 100, products: 67 + 3 * 30 })
    expect(estimate.time_ms).toBeGreaterThan(0)
  })

  it('refuses a pattern that matches nothing', async () => {
    const { status, stderr } = await losscape(['spectrum', run, '--params', 'conv.*'])
    expect(status).toBe(2)
    expect(stderr).toMatch(/No parameter matches 'conv\.\*'.*layers\.0\.weight/)
  })
})

describe('report', () => {
  it('draws the run and exports its arrays', async () => {
    const out = join(folder, 'report')
    const result = await losscapeJson<{ page: string; files: string[] }>([
      ...['report', run, '--out', out, '--title', 'Tiny'],
    ])
    expect(result.page).toBe(join(out, 'index.html'))
    const html = readFileSync(result.page, 'utf8')
    expect(html).toContain('<title>Tiny')
    expect(html).toContain('<svg')
    expect(html).toContain('mlp:4-8-3 (tanh)')
    expect(readdirSync(join(out, 'figures')).some((name) => name.endsWith('.png'))).toBe(true)
    const nodes = await readNpy(join(out, 'arrays', 'a-nodes.npy'))
    expect(nodes.shape).toEqual([3, 30])
  })

  it('leaves a spectrum file out that is damaged, and names it', async () => {
    const broken = join(folder, 'broken')
    const out = join(folder, 'broken report')
    await losscapeJson(['train', '--model', 'mlp:4-3', '--data', data, '--out', broken])
    writeFileSync(join(broken, 'spectrum.json'), '{"n": "many"}')
    const { status, stdout, stderr } = await losscape(['report', broken, '--out', out])
    expect(status).toBe(0)
    expect(stderr).toMatch(/Left out: .*spectrum\.json.*'n'/)
    expect(readFileSync(stdout.trim(), 'utf8')).toMatch(/Left out: .*spectrum\.json/)
  })
})

it('demo trains, analyses and reports three networks', async () => {
  const out = join(folder, 'demo report')
  const small = ['--epochs', '1', '--samples', '40', '--runs', join(folder, 'demo'), '--out', out]
  const { status, stdout, stderr } = await losscape(['demo', '--data', data, ...small])
  expect(status).toBe(0)
  expect(stdout).toMatch(/^network +n +test accuracy/m)
  for (const name of ['narrow', 'wide', 'wide-tanh']) {
    expect(stdout).toMatch(new RegExp(`^${name} +[\\d,]+ +\\d+\\.\\d\\d %`, 'm'))
    expect(existsSync(join(folder, 'demo', name, 'spectrum.json'))).toBe(true)
  }
  expect(stdout).toContain(`Report: ${join(out, 'index.html')}`)
  expect(stderr).toMatch(/^spectrum: n = /m)
  expect(readFileSync(join(out, 'index.html'), 'utf8')).toContain('wide-tanh')
})
