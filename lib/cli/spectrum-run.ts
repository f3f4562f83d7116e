import { createHash } from 'node:crypto'
import type { DeviceOperator } from '../curvature/native-operator.js'
import { gaussNewton, hessian, remainder } from '../curvature/network.js'
import type { DataSet } from '../data/index.js'
import type { Device } from '../device/device.js'
import type { FloatVector } from '../nn/layout.js'
import { openRun, type RunFolder } from '../train/run-folder.js'
import { fromFlags } from './exit.js'
import { loadParameters, loadRunData, runLoss } from './run-data.js'
import type { Session } from './session.js'
import {
  computeSpectrum,
  probesKept,
  type SpectrumParts,
  type SpectrumSettings,
} from './spectrum-compute.js'
import {
  PartialSpectrum,
  type SavedSpectrum,
  spectrumFile,
  writeSpectrum,
} from './spectrum-files.js'

const OPERATORS = { hessian, 'gauss-newton': gaussNewton, remainder } as const

/** Which spectrum of which run. */
export interface SpectrumRequest extends SpectrumSettings {
  kind: keyof typeof OPERATORS
  samples?: number
  params?: string
  data?: string
  batch?: number
  dtype?: 'f32' | 'f64'
}

/** A run's operator, ready for products; its opener disposes it. */
export interface OpenedSpectrum {
  readonly device: Device
  readonly run: RunFolder
  readonly theta: FloatVector
  readonly state: FloatVector
  readonly set: DataSet
  readonly operator: DeviceOperator
}

/** Loads a run and its data, and makes the operator that the request names. */
export async function openSpectrum(
  device: Device,
  folder: string,
  request: SpectrumRequest,
  signal: AbortSignal,
): Promise<OpenedSpectrum> {
  const run = await openRun(folder)
  // A pattern that matches nothing is told before data are read.
  const { params: pattern } = request
  if (pattern !== undefined) await fromFlags(() => run.model.layout.match(pattern))
  const theta = await loadParameters(run)
  const state = await run.loadState()
  const { samples, data: spec, kind, batch, params, dtype: precision } = request
  const set = await loadRunData(run, { split: 'train', spec, samples, signal })
  const loss = runLoss(run)
  const operator = OPERATORS[kind](device, run.model, theta, set, {
    loss,
    batch,
    params,
    precision,
    state,
    // What the run would answer with: its running statistics.
    statistics: 'frozen',
  })
  return { device, run, theta, state, set, operator }
}

/**
 * Computes a spectrum into the run folder, saving every finished part on the way and taking up
 * what an interrupted call with the same parameters, data and settings had finished.
 */
export async function runSpectrum(
  opened: OpenedSpectrum,
  request: SpectrumRequest,
  session: Session,
): Promise<SavedSpectrum> {
  const { run, set, operator, device } = opened
  const file = spectrumFile(request.kind, request.params)
  const partial = new PartialSpectrum(run.path, file, partsKey(opened, request))
  const parts = request.exact ? null : await partial.load()
  const done = parts && progressOf(parts)
  if (done) session.note(`Going on after ${done}.`)
  if (!request.exact && probesKept(operator, request) === 'none') {
    session.note('The basis of a probe does not fit into --memory: probes keep three vectors.')
  }
  const bar = session.progress('spectrum')
  const { dtype, ...spectrum } = await computeSpectrum(operator, request, {
    signal: session.signal,
    onProgress: bar.update,
    parts: parts ?? undefined,
    onParts: (finished) => partial.save(finished),
  })
  bar.finish(`n = ${spectrum.n}, ${set.size} samples`)
  const { kind, params, top, probes, steps, seed, exact = false, reorthogonalize, memory } = request
  const result: SavedSpectrum = {
    ...spectrum,
    samples: set.size,
    device: device.name,
    dtype,
    settings: {
      ...{ kind, params, data: set.name, top, probes, steps, seed, exact },
      ...{ reorthogonalize, memory },
    },
  }
  await writeSpectrum(run.file(file), result)
  await partial.remove()
  return result
}

/** What parts hold, in words; null for nothing. */
export function progressOf({ ends, lanczos, nodes }: SpectrumParts): string | null {
  if (!ends) return lanczos && `${lanczos.state.products} products of Lanczos`
  if (nodes.length === 0) return 'the extreme eigenvalues'
  return `the extreme eigenvalues and ${nodes.length} ${nodes.length === 1 ? 'probe' : 'probes'}`
}

/** Everything that decides the numbers of a part; the number of probes does not. */
function partsKey(
  { theta, state, set, run, device }: OpenedSpectrum,
  request: SpectrumRequest,
): string {
  const { kind, params, top, steps, seed, batch, dtype, reorthogonalize, memory } = request
  const hash = createHash('sha256')
  for (const { buffer, byteOffset, byteLength } of [theta, state, set.inputs, set.targets]) {
    hash.update(new Uint8Array(buffer as ArrayBuffer, byteOffset, byteLength))
  }
  const rest = {
    ...{ kind, params, top, steps, seed, batch, dtype, reorthogonalize, memory },
    threads: device.threads,
  }
  hash.update(JSON.stringify({ ...rest, config: run.config }))
  return hash.digest('hex')
}
