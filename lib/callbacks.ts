import { setImmediate } from 'node:timers/promises'
import { abortError } from './errors.js'

/** Makes a callback of the user's safe to call: it returns at once and never throws. */
export type Guard = <A extends unknown[]>(
  callback: ((...args: A) => unknown) | undefined,
) => ((...args: A) => void) | undefined

/**
 * Watches over the callbacks of one run. One that throws, or whose promise rejects, stops the run,
 * which then fails with that error; further calls are dropped. Promises are not waited for (a
 * callback may wait for the run itself): a rejection that comes when the run has ended is a warning,
 * never an unhandled rejection.
 */
export class CallbackWatch {
  private failure: { readonly error: unknown } | null = null
  private pending = 0
  private ended = false

  /** @param stop cancels what the run still does */
  constructor(private readonly stop: () => void) {}

  readonly guard: Guard = (callback) =>
    callback &&
    ((...args) => {
      if (this.failure) return
      try {
        const result = callback(...args)
        if (isThenable(result)) this.follow(result)
      } catch (error) {
        this.fail(error)
      }
    })

  /** The run's result; what a callback failed with comes before the abort that it caused. */
  async settle<T>(run: Promise<T>): Promise<T> {
    try {
      const [outcome] = await Promise.allSettled([run])
      // An async function that throws at once has rejected by the next turn of the event loop.
      if (this.pending > 0 && !this.failure) await setImmediate()
      if (this.failure) throw (this.failure as { error: unknown }).error
      if (outcome.status === 'rejected') throw outcome.reason
      return outcome.value
    } finally {
      this.ended = true
    }
  }

  private follow(promise: PromiseLike<unknown>): void {
    this.pending++
    promise.then(
      () => {
        this.pending--
      },
      (error: unknown) => {
        this.pending--
        this.fail(error)
      },
    )
  }

  private fail(error: unknown): void {
    if (this.ended) {
      process.emitWarning(
        `A callback rejected after its run had ended: ${String(error)}`,
        'LosscapeWarning',
      )
      return
    }
    if (this.failure) return
    this.failure = { error }
    this.stop()
  }
}

/**
 * Runs an algorithm in JavaScript whose `onProgress` is watched over: `body` gets the options with a
 * guarded one, and a signal that also fires when it fails.
 *
 * @throws what `onProgress` throws or rejects with, else what `body` throws
 */
export async function withProgress<
  // biome-ignore lint/suspicious/noExplicitAny: any progress function fits.
  O extends { readonly signal?: AbortSignal; readonly onProgress?: (...args: any[]) => void },
  T,
>(options: O, body: (options: O) => Promise<T>): Promise<T> {
  const { signal, onProgress } = options
  if (!onProgress) return body(options)
  const stop = new AbortController()
  const watch = new CallbackWatch(() => stop.abort())
  const either = signal ? AbortSignal.any([signal, stop.signal]) : stop.signal
  const guarded = { ...options, signal: either, onProgress: watch.guard(onProgress) }
  return watch.settle(body(guarded))
}

/**
 * What a function of the user's returned or promises; ERR_ABORTED as soon as the signal fires, for
 * the promise may never settle.
 */
export async function orAborted<T>(
  result: T | PromiseLike<T>,
  signal: AbortSignal | undefined,
): Promise<T> {
  if (!signal || !isThenable(result)) return result
  return new Promise<T>((resolve, reject) => {
    const abort = (): void => reject(abortError(signal))
    const forget = (): void => signal.removeEventListener('abort', abort)
    signal.addEventListener('abort', abort, { once: true })
    result.then(resolve, reject).then(forget, forget)
    if (signal.aborted) abort()
  })
}

function isThenable(value: unknown): value is PromiseLike<never> {
  return typeof (value as { then?: unknown } | null | undefined)?.then === 'function'
}
