import { mkdtempSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  computeSpectrum,
  lanczosSteps,
  type Spectrum,
  type SpectrumParts,
} from '../../lib/cli/spectrum-compute.js'
import { PartialSpectrum } from '../../lib/cli/spectrum-files.js'
import type { DeviceOperator } from '../../lib/curvature/native-operator.js'
import { hessian } from '../../lib/curvature/network.js'
import { type Device, open } from '../../lib/device/device.js'
import { mlp } from '../../lib/nn/mlp.js'
import { normals } from '../../lib/random/index.js'

const folder = mkdtempSync(join(tmpdir(), 'losscape-spectrum-'))
const settings = { top: 5, probes: 3, steps: 12, seed: 2 }
const basis = join(folder, 'spectrum.partial.basis')

let device: Device
let operator: DeviceOperator
let whole: Spectrum
beforeAll(async () => {
  device = await open({ device: 'cpu' })
  const model = mlp({ input: 8, hidden: [12], classes: 4 })
  const size = 60
  const set = {
    name: 'random',
    size,
    shape: [8],
    inputs: normals(1, 0, 0, size * 8),
    targets: Int32Array.from({ length: size }, (_, i) => (i * 7) % 4),
    targetShape: [],
    classes: 4,
    normalization: { mean: [0], std: [1] },
  }
  operator = hessian(device, model, normals(2, 0, 0, model.size), set)
  whole = await computeSpectrum(operator, settings)
})
afterAll(() => {
  operator.dispose()
  device.dispose()
  rmSync(folder, { recursive: true })
})

const partial = (key = 'k'): PartialSpectrum => new PartialSpectrum(folder, 'spectrum.json', key)

/** Runs until so many products are done, then aborts. */
async function interrupt(products: number): Promise<SpectrumParts[]> {
  const controller = new AbortController()
  const file = partial()
  const saved: SpectrumParts[] = []
  const run = computeSpectrum(operator, settings, {
    signal: controller.signal,
    parts: (await file.load()) ?? undefined,
    async onParts(parts) {
      await file.save(parts)
      saved.push(parts)
    },
    onProgress: (done) => done >= products && controller.abort(),
  })
  await expect(run).rejects.toMatchObject({ code: 'ERR_ABORTED' })
  return saved
}

async function finish(): Promise<Spectrum> {
  const file = partial()
  const parts = await file.load()
  const { time_ms, ...result } = await computeSpectrum(operator, settings, {
    parts: parts ?? undefined,
    onParts: (finished) => file.save(finished),
  })
  expect(time_ms).toBeGreaterThan(0)
  await file.remove()
  return { ...result, time_ms: whole.time_ms }
}

describe('a spectrum interrupted within Lanczos', () => {
  it.each([10, 20, 30])(
    'goes on after %i products and comes to the same bits',
    async (products) => {
      await interrupt(products)
      const parts = await partial().load()
      expect(parts?.ends).toBeNull()
      expect(parts?.lanczos?.state.products).toBeGreaterThanOrEqual(products)
      expect(await finish()).toEqual(whole)
      expect(await partial().load()).toBeNull()
    },
  )

  it('goes on again and again', async () => {
    for (const products of [10, 25, 35]) {
      await interrupt(products)
    }
    await interrupt(lanczosSteps(operator.size, settings) + settings.steps + 1)
    const parts = await partial().load()
    expect(parts?.ends).not.toBeNull()
    expect(parts?.nodes.length).toBeGreaterThanOrEqual(1)
    expect(await finish()).toEqual(whole)
  })

  it('writes every basis vector once', async () => {
    const bytes = operator.size * 4
    const saved = await interrupt(25)
    let rows = 0
    for (const { lanczos } of saved) {
      expect(lanczos?.firstRow).toBe(rows)
      rows += lanczos?.basis.length ?? 0
    }
    expect(rows).toBe((saved.at(-1)?.lanczos?.state.steps ?? 0) + 1)
    expect(statSync(basis).size).toBe(rows * bytes)
    // Also after taking it up.
    const more = await interrupt(25)
    expect(more[0].lanczos?.firstRow).toBe(rows)
    expect(await finish()).toEqual(whole)
    expect(() => statSync(basis)).toThrow('ENOENT')
  })

  it('begins anew where files are damaged, missing or of another key', async () => {
    await interrupt(20)
    expect(await partial('another').load()).toBeNull()
    truncateSync(basis, statSync(basis).size - 1)
    const short = await partial().load()
    expect(short?.lanczos).toBeNull()
    expect(await finish()).toEqual(whole)
    await interrupt(20)
    rmSync(basis)
    expect(await partial().load()).toBeNull()
    expect(await finish()).toEqual(whole)
    writeFileSync(join(folder, 'spectrum.partial.json'), '{"key":"k"}')
    expect(await partial().load()).toBeNull()
    await partial().remove()
  })
})
