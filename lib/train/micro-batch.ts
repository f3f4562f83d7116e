import { abortError } from '../errors.js'
import type { FloatVector } from '../nn/layout.js'

interface Waiting {
  readonly sample: FloatVector
  readonly resolve: (answer: FloatVector) => void
  readonly reject: (error: unknown) => void
}

/** Joins calls into runs: one starts when `maxBatch` wait, or the first has waited `maxDelayMs`. */
export class MicroBatcher {
  private waiting = new Set<Waiting>()
  private readonly running = new Set<Waiting>()
  private timer: NodeJS.Timeout | null = null

  constructor(
    private readonly maxBatch: number,
    private readonly maxDelayMs: number,
    private readonly run: (samples: readonly FloatVector[]) => Promise<readonly FloatVector[]>,
  ) {}

  /** Rejects with ERR_ABORTED at once when the signal fires; the others of its run go on. */
  add(sample: FloatVector, signal?: AbortSignal): Promise<FloatVector> {
    return new Promise((resolve, reject) => {
      const settle = (): void => {
        signal?.removeEventListener('abort', abort)
        this.waiting.delete(call)
        this.running.delete(call)
      }
      const call: Waiting = {
        sample,
        resolve: (answer) => {
          settle()
          resolve(answer)
        },
        reject: (error) => {
          settle()
          reject(error)
        },
      }
      const abort = (): void => call.reject(abortError(signal as AbortSignal))
      signal?.addEventListener('abort', abort, { once: true })
      this.waiting.add(call)
      if (this.waiting.size >= this.maxBatch) this.flush()
      else this.timer ??= setTimeout(() => this.flush(), this.maxDelayMs)
    })
  }

  /** Rejects everything that has no answer yet. */
  close(error: unknown): void {
    if (this.timer) clearTimeout(this.timer)
    this.timer = null
    for (const call of [...this.waiting, ...this.running]) call.reject(error)
  }

  private flush(): void {
    if (this.timer) clearTimeout(this.timer)
    this.timer = null
    const calls = [...this.waiting]
    this.waiting.clear()
    if (calls.length === 0) return
    for (const call of calls) this.running.add(call)
    this.run(calls.map(({ sample }) => sample)).then(
      (answers) => {
        for (const [i, call] of calls.entries()) call.resolve(answers[i])
      },
      (error) => {
        for (const call of calls) call.reject(error)
      },
    )
  }
}
