import { density } from '../../lib/curvature/density.js'
import { tridiagonalEigen } from '../../lib/curvature/tridiagonal.js'
import type { MetricsRow, RunReport, SpectrumResult } from '../../lib/report/data.js'

/** Uniform numbers in [0, 1) that are the same on every machine (32-bit mixing, not for science). */
export function uniform(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x9e3779b9) >>> 0
    let z = state
    z = Math.imul(z ^ (z >>> 16), 0x85ebca6b)
    z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35)
    return ((z ^ (z >>> 16)) >>> 0) / 2 ** 32
  }
}

/** Standard normal by Box and Muller. */
const normal = (random: () => number) =>
  Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random())

/** Eigenvalues like a trained classifier's: ten outliers, a heavy bulk near 0, a few negative. */
function trainedEigenvalues(size: number, random: () => number): Float64Array {
  return Float64Array.from({ length: size }, (_, i) => {
    if (i < 10) return 42 * 0.78 ** i + random()
    if (i < 60) return 1.5 * random() ** 2
    return 3e-2 * (random() - 0.12) * 10 ** (-4 * random())
  })
}

/** Lanczos on a diagonal matrix with full reorthogonalisation, from a random start. */
function quadrature(eigenvalues: Float64Array, steps: number, random: () => number) {
  const size = eigenvalues.length
  const basis: Float64Array[] = []
  const unit = (v: Float64Array) => {
    const norm = Math.sqrt(v.reduce((sum, x) => sum + x * x, 0))
    return { norm, v: v.map((x) => x / norm) }
  }
  let current = unit(Float64Array.from({ length: size }, () => normal(random))).v
  const alpha: number[] = []
  const beta: number[] = []
  for (let j = 0; j < steps; j++) {
    basis.push(current)
    const w = current.map((x, i) => x * eigenvalues[i])
    for (let pass = 0; pass < 2; pass++) {
      basis.forEach((b, k) => {
        let dot = 0
        for (let i = 0; i < size; i++) dot += b[i] * w[i]
        if (k === j) alpha[j] = (alpha[j] ?? 0) + dot
        for (let i = 0; i < size; i++) w[i] -= dot * b[i]
      })
    }
    const next = unit(w)
    beta.push(next.norm)
    current = next.v
  }
  const { values, first, last } = tridiagonalEigen(
    Float64Array.from(alpha),
    Float64Array.from(beta),
  )
  return {
    nodes: [...values],
    weights: [...first].map((x) => x * x),
    residuals: [...last].map((x) => Math.abs(x) * beta[steps - 1]),
  }
}

/** A spectrum as `losscape spectrum --json` would give it for a small trained classifier. */
export function trainedSpectrum(seed = 1): SpectrumResult {
  const random = uniform(seed)
  const eigenvalues = trainedEigenvalues(1200, random)
  const probes = Array.from({ length: 6 }, () => quadrature(eigenvalues, 60, random))
  const measure = { nodes: probes.map((p) => p.nodes), weights: probes.map((p) => p.weights) }
  const { grid, values } = density(measure)
  const [first] = probes
  return {
    n: 1200,
    samples: 2000,
    eigenvalues: { top: first.nodes.slice(-10).reverse(), bottom: first.nodes.slice(0, 10) },
    residuals: { top: first.residuals.slice(-10).reverse(), bottom: first.residuals.slice(0, 10) },
    trace: { value: eigenvalues.reduce((sum, x) => sum + x, 0), stderr: 4.2 },
    density: { grid: [...grid], values: [...values] },
    ...measure,
    time_ms: 2345.6,
    device: 'cpu',
  }
}

/** Twelve epochs of a training that goes well. */
export function trainingMetrics(seed = 2): MetricsRow[] {
  const random = uniform(seed)
  return Array.from({ length: 12 }, (_, i) => i + 1).flatMap((epoch) => {
    const loss = 0.02 + 0.6 * Math.exp(-epoch / 2.2) + 0.01 * random()
    const common = { step: epoch * 469, epoch, lr: 0.1 }
    return [
      { ...common, split: 'train' as const, loss, accuracy: 1 - 0.28 * loss },
      {
        ...common,
        split: 'test' as const,
        loss: loss + 0.01 * epoch ** 0.7,
        accuracy: 0.987 - 0.3 * loss,
      },
    ]
  })
}

export function trainedRun(name: string, seed = 1): RunReport {
  return {
    name,
    summary: 'mlp:784-256-256-10 (relu) on a synthetic data set, SGD with momentum 0.9, rate 0.1.',
    metrics: trainingMetrics(seed + 1),
    spectrum: trainedSpectrum(seed),
  }
}
