import { CallbackWatch, type Guard } from '../callbacks.js'
import { abortError, LosscapeError, throwIfAborted } from '../errors.js'
import type { NativeBinding, NativeToken } from '../native.js'

/**
 * Runs native jobs under an AbortSignal: `body` gets a token for them, which is cancelled when the
 * signal fires, and a guard for callbacks: one that throws would end the process when native code
 * calls it, so it cancels the jobs and its error is thrown here (see {@link CallbackWatch}).
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
  const forget = signal && cancelWith(signal, token)
  const watch = new CallbackWatch(() => token.cancel())
  try {
    return await watch.settle(body(token, watch.guard))
  } catch (error) {
    const aborted = error instanceof LosscapeError && error.code === 'ERR_ABORTED'
    throw signal?.aborted && aborted ? abortError(signal) : error
  } finally {
    forget?.()
  }
}

/** Tokens of the calls in flight, by signal. */
const inFlight = new WeakMap<AbortSignal, { tokens: Set<NativeToken>; cancel: () => void }>()

/** One listener for all calls: Node warns of a leak where more than ten wait for one signal. */
function cancelWith(signal: AbortSignal, token: NativeToken): () => void {
  let calls = inFlight.get(signal)
  if (!calls) {
    const tokens = new Set<NativeToken>()
    calls = {
      tokens,
      cancel: () => {
        for (const each of tokens) each.cancel()
      },
    }
    signal.addEventListener('abort', calls.cancel, { once: true })
    inFlight.set(signal, calls)
  }
  const { tokens, cancel } = calls
  tokens.add(token)
  return () => {
    tokens.delete(token)
    if (tokens.size > 0) return
    signal.removeEventListener('abort', cancel)
    inFlight.delete(signal)
  }
}
