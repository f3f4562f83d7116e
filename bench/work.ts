/**
 * Multiply-add work and memory traffic of the cases: what the limits are made of.
 * FLOP counts are those of the matrix products; a multiply-add is two.
 */

import type { Limit, MachineRates } from './types.js'

/** Parameters of a multilayer perceptron with biases. */
export function mlpParameters(sizes: readonly number[]): number {
  return pairs(sizes).reduce((sum, [p, q]) => sum + p * q + q, 0)
}

/**
 * Tangent part of a Hessian product (primal kept): per layer A W', A' W, dZ W^T, Z W'^T, A^T dZ,
 * A'^T Z; the first layer has a constant input and only two of the six.
 */
export function hessianProductFlops(sizes: readonly number[], batch: number): number {
  const work = layerFlops(sizes, batch)
  return 2 * work[0] + 6 * sum(work.slice(1))
}

/** Gauss-Newton product with the forward pass kept: without the two products with Z. */
export function gaussNewtonFlops(sizes: readonly number[], batch: number): number {
  const work = layerFlops(sizes, batch)
  return 2 * work[0] + 4 * sum(work.slice(1))
}

/** Loss and gradient: three products per layer, two in the first. */
export function gradientFlops(sizes: readonly number[], batch: number): number {
  const work = layerFlops(sizes, batch)
  return 2 * work[0] + 3 * sum(work.slice(1))
}

/** Bytes of three reads of the basis (f32) in each of `steps` Lanczos steps. */
export function reorthogonalizationBytes(n: number, steps: number): number {
  return 3 * 4 * n * ((steps * (steps + 1)) / 2)
}

/** Milliseconds that `flops` take at the machine's matrix-product rate. */
export async function gemmFloor(rates: MachineRates, flops: number): Promise<Limit | null> {
  const rate = await rates.gemmRate()
  return rate === null ? null : { value: (flops / rate) * 1e3, name: 'GEMM rate' }
}

function layerFlops(sizes: readonly number[], batch: number): number[] {
  return pairs(sizes).map(([p, q]) => 2 * batch * p * q)
}

function pairs(sizes: readonly number[]): [number, number][] {
  return sizes.slice(1).map((q, i) => [sizes[i], q])
}

function sum(values: readonly number[]): number {
  return values.reduce((total, x) => total + x, 0)
}

/**
 * Products of softmax attention per pair of a query and a key, recomputing scores: forward Q Kᵀ and
 * P V; gradient also dO Vᵀ, dQ, dK and dV; tangents of the gradient with scores, dO Vᵀ and the
 * tangents of the result.
 */
export function attentionFlops(pairs: number, width: number) {
  const product = 2 * pairs * width
  return { forward: 2 * product, backward: 5 * product, hessianProduct: 17 * product }
}

/**
 * Products of learnable attention with 2 G features and r latents per pair of a query and a key,
 * recomputing scores; what is linear in the tokens is left out.
 */
export function karatFlops(
  pairs: number,
  { width, G, r }: { width: number; G: number; r: number },
) {
  const score = 2 * pairs * width
  const latent = 2 * pairs * 2 * G * r
  return { gradient: 4 * score + 3 * latent, hessianProduct: 10 * score + 7 * latent }
}

/** Weight products of a vision transformer's forward pass; its gradient takes three times that. */
export function transformerFlops(
  size: { width: number; depth: number; patch: number; input: readonly number[]; classes: number },
  batch: number,
): number {
  const { width, depth, patch, input, classes } = size
  const [channels, height, columns] = input
  const patches = (height / patch) * (columns / patch)
  const block = 12 * width * width * (patches + 1)
  const ends = width * (channels * patch * patch * patches + classes)
  return 2 * batch * (depth * block + ends)
}
