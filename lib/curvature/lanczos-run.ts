import { orAborted } from '../callbacks.js'
import { defaultBinding } from '../device/device.js'
import { withSignal } from '../device/native-call.js'
import { LosscapeError, throwIfAborted } from '../errors.js'
import type { LanczosState, NativeBinding, NativeLanczos } from '../native.js'
import type { FloatVector } from '../nn/layout.js'
import {
  allocate,
  EPSILON,
  isNative,
  type LinearOperator,
  requireVectors,
  vectorLayout,
} from './operator.js'

/** How Lanczos vectors are kept orthogonal. */
export const REORTHOGONALIZE = ['cgs2', 'cgs1', 'partial', 'selective', 'none'] as const

export type Reorthogonalize = (typeof REORTHOGONALIZE)[number]

export interface LanczosRunOptions {
  /** Columns of the projection at most; more products take a restart. */
  readonly maxSteps: number
  readonly reorthogonalize: Reorthogonalize
  readonly onBreakdown: 'stop' | 'restart'
  readonly seed: number
  readonly stream: number
  /** Start vector; default a Rademacher probe of (seed, stream). */
  readonly start?: ArrayLike<number>
  /** Goes on from here instead of a start vector, bit for bit. */
  readonly resume?: { readonly state: LanczosState; readonly basis: readonly FloatVector[] }
  readonly signal?: AbortSignal
  /** After every step, with the products so far; coalesced when JavaScript is behind. */
  readonly onStep?: (products: number) => void
}

/** One Lanczos run against any operator; disposable. */
export interface LanczosRun {
  readonly state: LanczosState
  readonly binding: NativeBinding
  /** Does up to `steps` further steps; fewer at a stop or when the space is exhausted. */
  advance(steps: number): Promise<void>
  /** Basis rows `from` .. steps, logical; row `steps` is the vector of the next product. */
  readBasis(from: number): Promise<FloatVector[]>
  /** Thick restart with eigenvectors of the projection, rows of `vectors`, and their values. */
  restart(vectors: Float64Array, values: Float64Array): Promise<void>
  /** V Vᵀ of the rows done. */
  gram(): Promise<Float64Array>
  /** Linear combinations of the basis, rows of `coefficients` [count, steps]. */
  combine(coefficients: Float64Array, count: number): Promise<FloatVector[]>
  dispose(): void
}

/** Bytes of one row of the basis. */
export function basisRowBytes(operator: LinearOperator): number {
  const layout = isNative(operator) ? operator.layout : vectorLayout(operator.size)
  // The native side pads rows to 64 elements: kBasisElements in native/cpu/gram_schmidt.h.
  return Math.ceil(layout.storage / 64) * 64 * (operator.dtype === 'f64' ? 8 : 4)
}

/** Relative size below which a residual counts as zero: 10 eps √steps. */
function breakdownThreshold(dtype: 'f32' | 'f64', maxSteps: number): number {
  return 10 * EPSILON[dtype] * Math.sqrt(maxSteps + 1)
}

export async function openLanczos(
  operator: LinearOperator,
  options: LanczosRunOptions,
): Promise<LanczosRun> {
  const { signal } = options
  throwIfAborted(signal)
  const binding = isNative(operator) ? operator.device.binding : defaultBinding()
  const layout = isNative(operator) ? operator.layout : vectorLayout(operator.size)
  const { dtype } = operator
  const segments = layout.segments()
  const native = binding.createLanczos({
    dtype,
    storage: layout.storage,
    segments,
    maxSteps: options.maxSteps,
    reorthogonalize: options.reorthogonalize,
    breakdown: breakdownThreshold(dtype, options.maxSteps),
    onBreakdown: options.onBreakdown,
    seed: options.seed,
    stream: options.stream + 2 ** 31,
  })
  try {
    if (options.resume) await restore(native, operator, options.resume)
    else await begin(binding, native, operator, options)
  } catch (error) {
    native.dispose()
    throw error
  }
  const storageVector = (): FloatVector => allocate(dtype, layout.storage)
  const finished = (): boolean => {
    const { steps, exhausted, invariantSubspaceAt } = native.state()
    // Without a basis nothing fresh can be made orthogonal to it.
    const stops = options.onBreakdown === 'stop' || options.reorthogonalize === 'none'
    return exhausted || (stops && invariantSubspaceAt >= 0) || steps >= options.maxSteps
  }

  const stepWithUser = async (): Promise<void> => {
    const current = storageVector()
    await native.current(current)
    const v = layout.fromStorage(current, allocate(dtype, operator.size))
    const product = await orAborted(operator.matvec(v, { signal }), signal)
    await native.feed(layout.toStorage(product, storageVector()))
    options.onStep?.(native.state().products)
  }

  return {
    get state() {
      return native.state()
    },
    binding,
    async advance(steps) {
      if (isNative(operator)) {
        const { maxSteps } = options
        const count = Math.min(steps, maxSteps - native.state().steps)
        if (count <= 0 || finished()) return
        await withSignal(binding, signal, (token, guard) =>
          native.run(operator.native, count, {
            token,
            onStep: guard(options.onStep && ((state) => options.onStep?.(state.products))),
          }),
        )
        return
      }
      for (let i = 0; i < steps && !finished(); i++) {
        throwIfAborted(signal)
        await stepWithUser()
      }
    },
    async readBasis(from) {
      const { steps, exhausted } = native.state()
      const rows: FloatVector[] = []
      for (let row = from; row < (exhausted ? steps : steps + 1); row++) {
        const stored = storageVector()
        await native.readBasis(row, stored)
        rows.push(layout.fromStorage(stored, allocate(dtype, operator.size)))
      }
      return rows
    },
    async restart(vectors, values) {
      await withSignal(binding, signal, (token) => native.restart(vectors, values, { token }))
    },
    gram: () => withSignal(binding, signal, (token) => native.gram({ token })),
    async combine(coefficients, count) {
      if (count === 0) return []
      const bytes = dtype === 'f64' ? 8 : 4
      const buffer = binding.createBuffer(count * layout.storage * bytes)
      try {
        const all = allocate(dtype, count * layout.storage)
        await withSignal(binding, signal, async (token) => {
          const combined = native.combine(coefficients, count, { buffer, offset: 0 }, { token })
          await Promise.all([combined, buffer.read(0, all, { token })])
        })
        return Array.from({ length: count }, (_, i) =>
          layout.fromStorage(
            all.subarray(i * layout.storage, (i + 1) * layout.storage),
            allocate(dtype, operator.size),
          ),
        )
      } finally {
        buffer.dispose()
      }
    },
    dispose: () => native.dispose(),
  }
}

async function restore(
  native: NativeLanczos,
  operator: LinearOperator,
  { state, basis }: NonNullable<LanczosRunOptions['resume']>,
): Promise<void> {
  const layout = isNative(operator) ? operator.layout : vectorLayout(operator.size)
  for (const [row, vector] of basis.entries()) {
    requireUnit(vector, row)
    await native.writeBasis(row, layout.toStorage(vector, allocate(operator.dtype, layout.storage)))
  }
  await native.restore(state)
}

/** Vectors damaged on their way would spoil the run without a sign. Throws ERR_ARGUMENT. */
function requireUnit(vector: FloatVector, row: number): void {
  let square = 0
  for (let i = 0; i < vector.length; i++) square += vector[i] * vector[i]
  // Far above rounding; NaN fails too.
  if (Math.abs(square - 1) <= 1e-4) return
  throw new LosscapeError(
    'ERR_ARGUMENT',
    `The checkpoint cannot be resumed: basis vector ${row} has the norm ${Math.sqrt(square)} instead of 1, so it is damaged.`,
  )
}

/** Hands the start vector over: the user's, or a probe that depends on seed and stream only. */
async function begin(
  binding: NativeBinding,
  native: NativeLanczos,
  operator: LinearOperator,
  options: LanczosRunOptions,
): Promise<void> {
  const layout = isNative(operator) ? operator.layout : vectorLayout(operator.size)
  const { dtype } = operator
  const bytes = dtype === 'f64' ? 8 : 4
  const buffer = binding.createBuffer(layout.storage * bytes)
  const view = { buffer, offset: 0 }
  try {
    await withSignal(binding, options.signal, async (token) => {
      const filled = options.start
        ? buffer.write(0, startVector(options.start, layout.storage), { token })
        : binding.fillProbe(
            view,
            dtype,
            layout.segments(),
            'rademacher',
            options.seed,
            options.stream,
            { token },
          )
      await Promise.all([filled, native.start(view, { token })])
    })
  } finally {
    buffer.dispose()
  }

  function startVector(start: ArrayLike<number>, storage: number): FloatVector {
    requireVectors(start, operator.size, 1)
    let norm = 0
    for (let i = 0; i < start.length; i++) norm += start[i] * start[i]
    if (norm === 0) {
      throw new LosscapeError('ERR_ARGUMENT', 'The start vector of Lanczos must not be zero.')
    }
    return layout.toStorage(start, allocate(dtype, storage))
  }
}
