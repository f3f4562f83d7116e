import { eliminationMeasures } from '../../analysis/elimination.js'
import type { Device } from '../../device/device.js'
import { compile } from '../../device/executable.js'
import * as ops from '../../ops/index.js'
import type { Tensor } from '../../program/tensor.js'
import { trace } from '../../program/trace.js'
import type { Program } from '../../program/types.js'
import { normals, stream } from '../../random/index.js'
import { VARIANTS } from './settings.js'

/** A plain stack of 1 x 1 convolutions → norm → ReLU at its start. */
export interface StackSettings {
  readonly depth: number
  /** C */
  readonly channels: number
  /** G of the norms over channels. */
  readonly groups: number
  /** N images of S pixels each. */
  readonly images: number
  readonly pixels: number
}

const { bn, ...others } = VARIANTS

/** Norms of the stack; WS standardises the filters too. */
export const STACK_NORMS = {
  bn,
  ln: { label: 'LN', norm: 'ln', ws: false },
  ...others,
} as const

export type StackNorm = keyof typeof STACK_NORMS
export const STACK_NORM_NAMES = Object.keys(STACK_NORMS) as StackNorm[]

/** One norm's stack, before its ReLUs; a number for each layer. */
export interface StackRow {
  readonly norm: StackNorm
  /** Mean divergence of the channels from N(0, 1). */
  readonly divergence: readonly number[]
  /** Shares of channels that are active for less than 2 % of the values, or more than 98 %. */
  readonly dead: readonly number[]
  readonly linear: readonly number[]
}

/**
 * How channels drift with depth before any training: a stack of `depth` layers x → norm(x Wᵀ) → ReLU
 * with He-normal W on Gaussian images, and every channel's moments over images and pixels before
 * each ReLU.
 *
 * @throws ERR_ABORTED
 */
export async function initializationRows(
  device: Device,
  settings: StackSettings,
  { seed, signal }: { readonly seed: number; readonly signal?: AbortSignal },
): Promise<StackRow[]> {
  const { depth, channels, images, pixels } = settings
  const x = normals(seed, stream('data', 500), 0, images * pixels * channels)
  const std = Math.sqrt(2 / channels)
  const weights = Array.from({ length: depth }, (_, l) =>
    normals(seed, stream('init', 500 + l), 0, channels * channels).map((z) => std * z),
  )
  const rows: StackRow[] = []
  for (const norm of STACK_NORM_NAMES) {
    const program = compile(device, stackProgram(settings, norm))
    try {
      const results = await program.run([x, ...weights], { signal })
      rows.push(rowOf(norm, results))
    } finally {
      program.dispose()
    }
  }
  return rows
}

function rowOf(norm: StackNorm, results: readonly ArrayLike<number>[]): StackRow {
  const layers = Array.from({ length: results.length / 3 }, (_, l) => {
    const [mean, variance, positive] = results.slice(3 * l, 3 * l + 3)
    return eliminationMeasures({ mean, std: Array.from(variance, Math.sqrt), positive })
  })
  return {
    norm,
    divergence: layers.map(({ divergence }) => divergence.mean),
    dead: layers.map(({ dead }) => dead),
    linear: layers.map(({ linear }) => linear),
  }
}

/** From (x, W..) to mean, variance and share of positive values [C] of every layer. */
export function stackProgram(settings: StackSettings, norm: StackNorm): Program {
  const { depth, channels: C, groups, images: N, pixels: S } = settings
  const { norm: kind, ws } = STACK_NORMS[norm]
  const square = [C, C]
  return trace(
    (x, ...filters) => {
      const weights = ws ? ops.weightStandardize(filters) : filters
      let a = x
      return weights.flatMap((w) => {
        const y = normalized(ops.matmul(a, w, { transB: true }), kind, groups)
        a = ops.relu(y)
        const { mean, variance } = ops.moments(y, [0, 1])
        const positive = ops.mean(ops.cast(ops.gt(y, 0), y.dtype), [0, 1])
        return [ops.reshape(mean, [C]), ops.reshape(variance, [C]), positive]
      })
    },
    [[N, S, C], ...Array.from({ length: depth }, () => square)],
  )
}

/** Without affine parts, which begin as the identity. */
function normalized(x: Tensor, kind: 'bn' | 'ln' | 'gn' | 'bcn', groups: number): Tensor {
  const layout = 'nhwc'
  if (kind === 'bn') return ops.batchNorm(x, { layout }).y
  if (kind === 'ln') return ops.groupNorm(x, { groups: 1, layout })
  if (kind === 'gn') return ops.groupNorm(x, { groups, layout })
  return ops.batchChannelNorm(x, { groups, layout }).y
}
