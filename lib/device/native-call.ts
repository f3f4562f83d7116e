import { abortError, LosscapeError, throwIfAborted } from '../errors.js'
import type { NativeBinding, NativeToken } from '../native.js'

/** Makes a user's callback safe to call from native code. */
export type Guard = <A extends unknown[]>(
  callback: ((...args: A) => void) | undefined,
) => ((...args: A) => void) | undefined

/**
 * Runs native jobs under an AbortSignal: `body` gets a token for them, which is cancelled when the
 * signal fires, and a guard for callbacks: one that throws would end the process when native code
 * calls it, so it cancels the jobs and its error is thrown here.
 *
 * @throws ERR_ABORTED with the signal's reason as cause; what the jobs or callbacks throw
 */
export async function withSignal<T>(
  binding: NativeBinding,
  signal: AbortSignal | undefined,
  body: (token: NativeToken, guard: Guard) => Promise<T>,
): Promise<T> {
  throwIfAborted(signal)
  const token = binding.createToken()
  const cancel = (): void => token.cancel()
  signal?.addEventListener('abort', cancel, { once: true })
  const failures: unknown[] = []
  const guard: Guard = (callback) =>
    callback &&
    ((...args) => {
      if (failures.length > 0) return
      try {
        callback(...args)
      } catch (error) {
        failures.push(error)
        token.cancel()
      }
    })
  try {
    const result = await body(token, guard)
    if (failures.length > 0) throw failures[0]
    return result
  } catch (error) {
    if (failures.length > 0) throw failures[0]
    const aborted = error instanceof LosscapeError && error.code === 'ERR_ABORTED'
    throw signal?.aborted && aborted ? abortError(signal) : error
  } finally {
    signal?.removeEventListener('abort', cancel)
  }
}
