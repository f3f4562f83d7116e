import { Worker } from 'node:worker_threads'
import { newArray } from '../allocation.js'
import type { Pixels } from '../data/augment/image.js'
import { abortError, LosscapeError } from '../errors.js'
import { type BatchJob, type BatchSetting, batchArrays } from './batch-maker.js'
import type { WorkerReply, WorkerRequest } from './batch-worker.js'

/** A finished batch in one of the ring's slots; give it back with {@link BatchPool.release}. */
export interface Batch {
  readonly step: number
  /** Samples as stored, [B, ..]. */
  readonly x: Pixels
  readonly y: Int32Array | Float32Array | Float64Array
}

interface Slot {
  x: ArrayBuffer
  y: ArrayBuffer
}

const ENTRY = new URL(
  import.meta.url.endsWith('.ts') ? './batch-worker.ts' : './batch-worker.js',
  import.meta.url,
)

let alive = 0

/** Worker threads of this process that have not ended. */
export function workersAlive(): number {
  return alive
}

/**
 * Worker threads that make the batches of consecutive steps ahead of their use, in a ring of
 * `workers + 2` slots: memory is bounded, and who makes a batch has no influence on it. Slots travel
 * to a worker and back (they are transferred, not copied); the data set lies in shared memory.
 */
export class BatchPool {
  private readonly workers: Worker[]
  private readonly load: number[]
  private readonly free: Slot[] = []
  private readonly done = new Map<number, Batch>()
  private readonly waiting = new Map<number, (error: LosscapeError | null) => void>()
  private readonly exits: Promise<unknown>[]
  private failure: LosscapeError | null = null
  private closed = false
  private nextStep: number

  /** @param jobs what each step needs, asked for in order; null: no further steps */
  constructor(
    private readonly setting: BatchSetting,
    private readonly options: {
      readonly workers: number
      readonly from: number
      readonly jobs: (step: number) => BatchJob | null
    },
  ) {
    const { workers, from } = options
    this.nextStep = from
    const { X, Y, xLength, yLength } = batchArrays(setting)
    const memory = (bytes: number): ArrayBuffer => newArray(Uint8Array, bytes, 'A batch').buffer
    for (let k = 0; k < workers + 2; k++) {
      this.free.push({
        x: memory(xLength * X.BYTES_PER_ELEMENT),
        y: memory(yLength * Y.BYTES_PER_ELEMENT),
      })
    }
    const shared: BatchSetting = {
      ...setting,
      inputs: toShared(setting.inputs),
      targets: toShared(setting.targets),
    }
    this.load = new Array<number>(workers).fill(0)
    this.workers = Array.from({ length: workers }, () => new Worker(ENTRY, { workerData: shared }))
    this.exits = this.workers.map((worker, k) => this.watch(worker, k))
    this.dispatch()
  }

  /** The batch of a step; steps are asked for in order. Rejects when a worker fails, or on abort. */
  async take(step: number, signal?: AbortSignal): Promise<Batch> {
    for (;;) {
      if (this.failure) throw this.failure
      if (signal?.aborted) throw abortError(signal)
      const batch = this.done.get(step)
      if (batch) {
        this.done.delete(step)
        return batch
      }
      await this.arrival(step, signal)
    }
  }

  /** Hands a slot back to the ring. */
  release({ x, y }: Batch): void {
    this.free.push({ x: x.buffer as ArrayBuffer, y: y.buffer as ArrayBuffer })
    this.dispatch()
  }

  /** Ends the workers and waits until they have. */
  async close(): Promise<void> {
    this.closed = true
    await Promise.all(this.workers.map((worker) => worker.terminate()))
    await Promise.all(this.exits)
  }

  private watch(worker: Worker, index: number): Promise<void> {
    alive++
    worker.on('message', (reply: WorkerReply) => {
      this.load[index]--
      this.accept(reply)
    })
    worker.on('error', (cause) => this.fail(`failed: ${cause.message}`, cause))
    return new Promise((resolve) => {
      worker.once('exit', (code) => {
        alive--
        this.fail(`ended with exit code ${code}`)
        resolve()
      })
    })
  }

  private accept({ step, x, y }: WorkerReply): void {
    const { X, Y, xLength, yLength } = batchArrays(this.setting)
    this.done.set(step, { step, x: new X(x, 0, xLength), y: new Y(y, 0, yLength) })
    this.waiting.get(step)?.(null)
  }

  private fail(what: string, cause?: unknown): void {
    if (this.closed || this.failure) return
    this.failure = new LosscapeError(
      'ERR_WORKER',
      `A worker thread that prepares training batches ${what}. Resume the run from its last ` +
        'checkpoint; if it fails again, try fewer `workers` or smaller batches.',
      { cause },
    )
    for (const settle of this.waiting.values()) settle(this.failure)
  }

  private arrival(step: number, signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const settle = (error: LosscapeError | null): void => {
        this.waiting.delete(step)
        signal?.removeEventListener('abort', abort)
        if (error) reject(error)
        else resolve()
      }
      const abort = (): void => settle(abortError(signal as AbortSignal))
      this.waiting.set(step, settle)
      signal?.addEventListener('abort', abort, { once: true })
    })
  }

  /** Gives free slots to the workers with the least to do. */
  private dispatch(): void {
    while (this.free.length > 0 && !this.closed && !this.failure) {
      const job = this.options.jobs(this.nextStep)
      if (!job) return
      const slot = this.free.pop() as Slot
      const index = this.load.indexOf(Math.min(...this.load))
      this.load[index]++
      this.nextStep++
      const request: WorkerRequest = { ...job, ...slot }
      this.workers[index].postMessage(request, [slot.x, slot.y])
    }
  }
}

function toShared<T extends Pixels | Int32Array>(array: T): T {
  if (array.buffer instanceof SharedArrayBuffer) return array
  const Type = array.constructor as new (buffer: SharedArrayBuffer) => T
  let memory: SharedArrayBuffer
  try {
    memory = new SharedArrayBuffer(array.byteLength)
  } catch (cause) {
    throw new LosscapeError(
      'ERR_OUT_OF_MEMORY',
      `The data set needs ${array.byteLength} bytes of memory that workers share.`,
      { cause },
    )
  }
  const copy = new Type(memory)
  copy.set(array as never)
  return copy
}
