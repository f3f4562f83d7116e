import { setImmediate } from 'node:timers/promises'
import { throwIfAborted } from './errors.js'

/** Long work in JavaScript, written once for both ways to do it: yields where it may pause. */
export type Slices<T> = Generator<void, T, void>

/** Milliseconds between two turns of the event loop. */
const SLICE_MS = 8

/** Does the work at once. */
export function atOnce<T>(work: Slices<T>): T {
  for (;;) {
    const { done, value } = work.next()
    if (done) return value
  }
}

/**
 * Does the work with turns of the event loop in between, so that a service goes on answering.
 * @throws ERR_ABORTED
 */
export async function inSlices<T>(work: Slices<T>, signal?: AbortSignal): Promise<T> {
  throwIfAborted(signal)
  let begin = performance.now()
  for (;;) {
    const { done, value } = work.next()
    if (done) return value
    if (performance.now() - begin < SLICE_MS) continue
    await setImmediate()
    throwIfAborted(signal)
    begin = performance.now()
  }
}

/**
 * Waits until signals and messages that came during long synchronous work have been handled. The
 * first turn may end before the loop polls for them.
 */
export async function eventsHandled(): Promise<void> {
  await setImmediate()
  await setImmediate()
}

/** The ranges [from, to) of at most `most` that make up 0 .. count. */
export function* ranges(count: number, most = 2 ** 14): Generator<[from: number, to: number]> {
  for (let from = 0; from < count; from += most) yield [from, Math.min(from + most, count)]
}
