/**
 * The typed contract of the native addon, in one place. Everything here is internal: the public
 * API wraps these handles, checks arguments, and turns native failures into `LosscapeError`s
 * (native errors carry `code`, one of `ErrorCode`).
 *
 * Rules: every function that computes returns a promise and runs on the executor thread; job
 * threads never touch JavaScript memory (inputs are copied at the call, results are copied into
 * JavaScript-owned arrays at completion); a handle may be disposed while jobs that use it are in
 * flight (they finish; its memory goes with the last of them), later calls throw `ERR_DISPOSED`.
 */

import type { ErrorCode } from './errors.js'

export type NumericArray = Float32Array | Float64Array | Int32Array | Uint8Array | Uint16Array

export interface NativeInfo {
  version: string
  /** Instruction set in use and those this machine could run, best first. */
  simd: string
  simdTargets: string[]
  /** Default thread count (affinity and cgroup quota). */
  threads: number
  onednn: string
  libc: string
}

/** Cancels the jobs that were started with it; created per call that has an AbortSignal. */
export interface NativeToken {
  cancel(): void
}

export interface JobOptions {
  token?: NativeToken
  /** 1 is served before 0, also between the operations of a running program. Default 0. */
  priority?: 0 | 1
}

/** Device memory, 256-byte aligned, zero-filled when created. */
export interface NativeBuffer {
  readonly bytes: number
  /** Copies `source` now, stores it in queue order. */
  write(byteOffset: number, source: NumericArray, options?: JobOptions): Promise<void>
  /** Copies bytes [byteOffset, byteOffset + target.byteLength) into `target` at completion. */
  read(byteOffset: number, target: NumericArray, options?: JobOptions): Promise<void>
  /** Sets every byte to zero, in queue order. */
  clear(options?: JobOptions): Promise<void>
  dispose(): void
}

/** A tensor's place in device memory; `offset` in bytes. */
export interface NativeView {
  buffer: NativeBuffer
  offset: number
}

export interface CompileOptions {
  /** Threads of this executable; default: the executor's. */
  threads?: number
  /** Pairs [input, output] that may share storage (the input is dead after the run). */
  donate?: [number, number][]
}

export interface OperationProfile {
  name: string
  milliseconds: number
  calls: number
}

export interface RunOptions extends JobOptions {
  /** Check every operation's result and reject with ERR_NOT_FINITE naming the first with a NaN. */
  anomaly?: boolean
  /** Resolve with a timing per operation. */
  profile?: boolean
}

export interface NativeExecutable {
  readonly inputBytes: number[]
  readonly outputBytes: number[]
  /** Bytes of the arena that liveness planning arrived at, and without any reuse. */
  readonly arenaBytes: number
  readonly unplannedBytes: number
  /** One line per operation: index, name, arena offset and bytes of its outputs. */
  describe(): string[]
  run(
    inputs: NativeView[],
    outputs: NativeView[],
    options?: RunOptions,
  ): Promise<OperationProfile[] | undefined>
  dispose(): void
}

/** Element ranges of a vector in device storage that hold numbers; the rest is zero padding. */
export interface SegmentTable {
  /** Elements, both per segment; offsets ascending. */
  offsets: Float64Array
  lengths: Float64Array
}

/**
 * The mean over a data set of a linear map given by a program, product by product:
 * out = scale * sum over chunks of linear(kept(chunk), v), accumulated in float64.
 * Every chunk has its own input views; `primal` runs once per chunk and its outputs are kept
 * while they fit in `keepBytes`, and are recomputed per product beyond that.
 */
export interface OperatorSpec {
  dtype: 'f32' | 'f64'
  /** Elements of a vector in device storage. */
  storage: number
  segments: SegmentTable
  scale: number
  /** Program from chunk views to kept tensors; absent when nothing is kept. */
  primal?: NativeExecutable
  /** Per chunk: input views of `primal`. */
  primalInputs: NativeView[][]
  /** One linear executable per tangent count it was compiled for, ascending, first is 1. */
  linear: { tangents: number; executable: NativeExecutable }[]
  /**
   * Inputs of `linear` in order. kept: output `index` of primal; chunk: view `index` of this
   * chunk's `chunkInputs`; tangent: the vector(s), at element offset `index` of the storage.
   */
  linearInputs: { kind: 'kept' | 'chunk' | 'tangent'; index: number }[]
  chunkInputs: NativeView[][]
  /** Element offset in storage of each output of `linear`. */
  linearOutputs: number[]
  keepBytes: number
  /** Chunks run side by side, one per thread; the executables are compiled for one thread. */
  sideBySide?: boolean
  /**
   * A program with R > 1 tangents has them as a leading axis [R, ...shape] of every tangent
   * input and output; the runtime gathers from and scatters to R separate vectors.
   */
}

export interface NativeOperator {
  /** R vectors one after another, each `storage` elements; both buffers hold `dtype`. */
  apply(
    input: NativeView,
    output: NativeView,
    count: number,
    options?: JobOptions & { onProgress?: (done: number, total: number) => void },
  ): Promise<void>
  /** A further linear executable, for products that are asked for from now on. */
  addLinear(tangents: number, executable: NativeExecutable): void
  /** Forgets kept tensors, so that the next product runs the primal part again. */
  invalidate(options?: JobOptions): Promise<void>
  readonly keptBytes: number
  dispose(): void
}

/** An operator made from others; vectors are Float64Arrays in device storage. */
export type WrapperSpec =
  /** Σ factor A + identity I + Σ factor u uᵀ */
  | {
      kind: 'sum'
      terms: { operator: NativeOperator; factor: number }[]
      identity: number
      rankOne: { vector: Float64Array; factor: number }[]
    }
  /** A A */
  | { kind: 'square'; operator: NativeOperator }
  /** D A D; padding of the diagonal is zero. */
  | { kind: 'congruence'; operator: NativeOperator; diagonal: Float64Array }
  /** (A + damping I)⁻¹; padding of the preconditioner is one. */
  | {
      kind: 'inverse'
      operator: NativeOperator
      damping: number
      tol: number
      maxIterations: number
      allowUnconverged: boolean
      preconditioner?: Float64Array
    }

export interface LanczosSpec {
  dtype: 'f32' | 'f64'
  storage: number
  segments: SegmentTable
  /** Columns of the projection at most; more products take a restart. */
  maxSteps: number
  /**
   * Two passes of classical Gram-Schmidt (default), one, only where estimated overlaps ask for it
   * (against all rows, or against converged Ritz vectors), or none (three-term recurrence).
   */
  reorthogonalize: 'cgs2' | 'cgs1' | 'partial' | 'selective' | 'none'
  /** Breakdown when beta <= breakdown * ||A v||. */
  breakdown: number
  /** After a breakdown: 'stop', or go on with a fresh orthogonal vector. */
  onBreakdown: 'stop' | 'restart'
  /** Key of the fresh vectors. */
  seed: number
  stream: number
}

/** Estimated loss of orthogonality: see native/runtime/overlap.h. Empty unless asked for. */
export interface OverlapEstimate {
  current: Float64Array
  previous: Float64Array
  noise: number
  pending: boolean
  /** Five numbers per converged Ritz vector. */
  ritz: Float64Array
}

export interface LanczosState {
  /** Columns of the projection of A. */
  steps: number
  /** The first of these: Ritz vectors kept by the last restart. */
  kept: number
  /** Products in all; equals `steps` until there is a restart. */
  products: number
  restarts: number
  /** Residuals that vanished. */
  breakdowns: number
  /** Vectors made orthogonal to more than the two before them. */
  reorthogonalizations: number
  alpha: Float64Array
  /**
   * beta[j] couples j and j + 1, but j and `kept` for j < kept; the last one is the residual norm.
   */
  beta: Float64Array
  /** Largest |c[j-1] - beta[j-1]| and |c[i]|, i < j-1, seen: asymmetry and noise of the operator. */
  asymmetry: number
  noise: number
  /** First step whose residual vanished, or -1. */
  invariantSubspaceAt: number
  /** No further vector exists: the space is exhausted. */
  exhausted: boolean
  estimate: OverlapEstimate
}

/**
 * Lanczos as a resumable state machine. With a native operator, `run` does steps without coming
 * back to JavaScript (each a queue job of its own); with a user's operator the caller reads
 * `current`, applies it, and hands the product to `feed`.
 */
export interface NativeLanczos {
  /** Start vector; normalised natively. */
  start(vector: NativeView, options?: JobOptions): Promise<void>
  run(
    operator: NativeOperator,
    steps: number,
    options?: JobOptions & { onStep?: (state: LanczosState) => void },
  ): Promise<LanczosState>
  /** Copies the vector that the operator is to be applied to next, as storage elements. */
  current(target: Float32Array | Float64Array, options?: JobOptions): Promise<void>
  feed(product: Float32Array | Float64Array, options?: JobOptions): Promise<LanczosState>
  state(): LanczosState
  /** Basis row i (storage elements). */
  readBasis(row: number, target: Float32Array | Float64Array, options?: JobOptions): Promise<void>
  writeBasis(row: number, source: Float32Array | Float64Array, options?: JobOptions): Promise<void>
  /** Puts back alpha, beta and counters after the basis rows were written (resume). */
  restore(state: LanczosState, options?: JobOptions): Promise<void>
  /**
   * Thick restart in place: keeps `values.length` eigenvectors of the projection, rows of
   * `coefficients` [values, steps], and the last residual.
   */
  restart(
    coefficients: Float64Array,
    values: Float64Array,
    options?: JobOptions,
  ): Promise<LanczosState>
  /** out[k] = sum_j coefficients[k * steps + j] * V[j]; k vectors of storage elements. */
  combine(
    coefficients: Float64Array,
    count: number,
    output: NativeView,
    options?: JobOptions,
  ): Promise<void>
  /** V Vᵀ of the rows done, [steps, steps]; costs steps^2 * storage operations. */
  gram(options?: JobOptions): Promise<Float64Array>
  /** max |V V^T - I| over the rows done; costs steps^2 * storage operations. */
  orthogonality(options?: JobOptions): Promise<number>
  readonly basisBytes: number
  dispose(): void
}

export interface OptimizerSpec {
  kind: 'sgd' | 'adam' | 'adamw'
  momentum: number
  dampening: number
  nesterov: boolean
  beta1: number
  beta2: number
  epsilon: number
  /** Global gradient norm is scaled down to this; Infinity: off. */
  clipNorm: number
}

/** Per segment of theta. `decay` is L2 (added to the gradient) for sgd and adam, decoupled for adamw. */
export interface OptimizerSegments extends SegmentTable {
  learningRateFactor: Float64Array
  decay: Float64Array
  /** 1: this segment does not move. */
  frozen: Uint8Array
}

export interface TrainerSpec {
  dtype: 'f32' | 'f64'
  storage: number
  segments: OptimizerSegments
  optimizer: OptimizerSpec
  /** theta, and the optimiser's moments (0, 1 or 2 vectors of storage elements each). */
  theta: NativeBuffer
  moments: NativeBuffer[]
  /**
   * Moving average of theta: after step t, average += (1 - d)(theta - average) with d = decay, or
   * min(decay, (1 + t) / (10 + t)) with warmup.
   */
  average?: { buffer: NativeBuffer; decay: number; warmup: boolean }
  /**
   * What is carried along without being learned, `storage` elements; a step that succeeds stores
   * the program's outputs 2, 3, ... at these element offsets.
   */
  state?: { buffer: NativeBuffer; storage: number; offsets: number[] }
  /** Program of one step. */
  executable: NativeExecutable
  /**
   * theta, state: element offset `index`; fixed: `fixed[index]`; rows: this batch's slice of the
   * indices given to `run` (i32 [batch]); weights: this batch's sample weights [batch] (0 pads);
   * key: i32 [4] = { seed low, seed high, batches before, 0 }; rate: the step's learning rate.
   */
  inputs: {
    kind: 'theta' | 'state' | 'fixed' | 'rows' | 'weights' | 'key' | 'rate'
    index: number
  }[]
  fixed: NativeView[]
  batch: number
  /**
   * Batches of a step (default 1): gradients are averaged with the sums of their weights, the state
   * goes on from one to the next, and those of weight 0 are left out.
   */
  accumulate?: number
  seed: number
  /** Output 0 is the batch's mean loss, output 1 its correct samples, then state, gradients. */
  gradientOffsets: number[]
}

export interface TrainSteps {
  /** Steps [from, to). */
  from: number
  to: number
  /** [(to - from) * accumulate * batch] rows of the data set. */
  rows: Int32Array
  /** [(to - from) * accumulate * batch] sample weights. */
  weights: Float32Array
  /** [(to - from)]. */
  learningRates: Float64Array
}

export interface TrainResult {
  losses: Float64Array
  correct: Float64Array
  gradientNorms: Float64Array
  /** Steps done; less than asked when the loss or gradient became non-finite or on abort. */
  done: number
  diverged: boolean
}

export interface NativeTrainer {
  /**
   * On abort resolves (does not reject) with the steps done so far; theta is at that boundary. Runs
   * may be queued: after one that diverged, those from later steps on do nothing and diverge too.
   */
  run(
    steps: TrainSteps,
    options?: JobOptions & { onStep?: (step: number, loss: number) => void },
  ): Promise<TrainResult>
  dispose(): void
}

export interface NativeMemory {
  /** Live handles and bytes by kind: buffer, executable, arena, operator, lanczos, trainer. */
  live: Record<string, { count: number; bytes: number }>
  bytes: number
  peakBytes: number
}

export interface NativeBinding {
  info(): NativeInfo
  /** Cancels all jobs and waits for the one that runs; for the exit of the process. */
  shutdown(): void
  /** The class of the addon's errors from now on; before, an Error with a `code`. */
  setErrorClass(constructor: new (code: ErrorCode, message: string) => Error): void
  /** Opens OpenBLAS; its build configuration and the kernel set that it chose. ERR_NATIVE without it. */
  blasInfo(): { version: string; core: string }
  /** Starts the executor with that many threads, or changes it between jobs. */
  setThreads(threads: number): void
  memory(): NativeMemory
  /** Upper limit of all live bytes; allocations beyond it fail with ERR_OUT_OF_MEMORY. 0: none. */
  setMemoryLimit(bytes: number): void
  createToken(): NativeToken
  createBuffer(bytes: number): NativeBuffer
  /** `names`, `words`: see lib/program/encode.ts and native/runtime/program.h. */
  compile(names: string[], words: Float64Array, options?: CompileOptions): NativeExecutable
  createOperator(spec: OperatorSpec): NativeOperator
  /** A dense symmetric (or any square) matrix as an operator, row-major, size x size. */
  createDenseOperator(matrix: Float64Array, size: number, dtype: 'f32' | 'f64'): NativeOperator
  /** Shares its operators: they may be disposed before it. */
  createWrappedOperator(spec: WrapperSpec): NativeOperator
  createLanczos(spec: LanczosSpec): NativeLanczos
  createTrainer(spec: TrainerSpec): NativeTrainer
  /** Eigenvalues ascending; eigenvectors as rows when asked. LAPACK dsyevd. */
  symmetricEigen(
    matrix: Float64Array,
    n: number,
    vectors: boolean,
    options?: JobOptions,
  ): Promise<{ values: Float64Array; vectors?: Float64Array }>
  /** Fills a vector in device storage with the probe (seed, stream), keyed by logical index. */
  fillProbe(
    target: NativeView,
    dtype: 'f32' | 'f64',
    segments: SegmentTable,
    kind: 'rademacher' | 'normal' | 'uniform',
    seed: number,
    stream: number,
    options?: JobOptions,
  ): Promise<void>
  /** Dot product over storage elements, accumulated in float64. */
  dot(
    a: NativeView,
    b: NativeView,
    elements: number,
    dtype: 'f32' | 'f64',
    options?: JobOptions,
  ): Promise<number>
  /** [countA, countB] dot products of rows of `storage` elements, accumulated in float64. */
  gram(
    a: NativeView,
    countA: number,
    b: NativeView,
    countB: number,
    storage: number,
    dtype: 'f32' | 'f64',
    options?: JobOptions,
  ): Promise<Float64Array>
  /** y_k = [y_k +] sum_j coefficients[k * from + j] x_j, k < to; x and y do not overlap. */
  combineVectors(
    coefficients: Float64Array,
    x: NativeView,
    from: number,
    y: NativeView,
    to: number,
    storage: number,
    dtype: 'f32' | 'f64',
    add: boolean,
    options?: JobOptions,
  ): Promise<void>
  /** y = [y +] a b elementwise; y may be a or b. */
  multiplyVectors(
    a: NativeView,
    b: NativeView,
    y: NativeView,
    elements: number,
    dtype: 'f32' | 'f64',
    add: boolean,
    options?: JobOptions,
  ): Promise<void>
  /** y = sqrt(y² + sum_j x_j²) elementwise over `count` rows, without overflow or underflow. */
  hypotVectors(
    x: NativeView,
    count: number,
    y: NativeView,
    storage: number,
    dtype: 'f32' | 'f64',
    options?: JobOptions,
  ): Promise<void>
  /** Bytes per second (read plus written) of the fastest copy or read at this working set. */
  copyBandwidth(bytes: number, threads: number): Promise<number>
  /** FLOP per second of the best matrix product available at n x n x n. */
  gemmRate(n: number, dtype: 'f32' | 'f64', threads: number): Promise<number>
  /** Seconds per reorthogonalisation (two passes) of a vector against `rows` rows; for benchmarks. */
  reorthogonalizationTime(
    storage: number,
    rows: number,
    repeats: number,
    threads: number,
  ): Promise<Float64Array>
}
