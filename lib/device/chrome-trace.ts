import { argumentError, requireArguments } from '../arguments.js'
import type { OperationProfile } from '../native.js'

/** A complete event of the Chrome trace format; times in microseconds. */
export interface TraceEvent {
  readonly name: string
  readonly ph: 'X'
  readonly ts: number
  readonly dur: number
  readonly pid: number
  readonly tid: number
}

/**
 * A profile as a trace that chrome://tracing and Perfetto open: write it as JSON. Operations stand
 * one after another, as they ran.
 */
export function chromeTrace(profile: readonly OperationProfile[]): {
  traceEvents: TraceEvent[]
  displayTimeUnit: 'ms'
} {
  requireArguments('chromeTrace()', { profile })
  const wrong = profile.find((entry) => !(entry?.milliseconds >= 0))
  if (wrong !== undefined || profile.includes(wrong as never)) {
    throw argumentError('chromeTrace()', 'an entry', '{ name, milliseconds, calls }', wrong)
  }
  let ts = 0
  const traceEvents = profile.map(({ name, milliseconds }): TraceEvent => {
    const dur = milliseconds * 1000
    const event: TraceEvent = { name, ph: 'X', ts, dur, pid: 1, tid: 1 }
    ts += dur
    return event
  })
  return { traceEvents, displayTimeUnit: 'ms' }
}
