import { setTimeout as sleep } from 'node:timers/promises'
import type { Peer } from './peer.js'
import { median, ratio } from './statistics.js'
import { type BenchCase, type BenchContext, type BenchResult, betterOf } from './types.js'

export interface HarnessOptions {
  /** Measurements per side; medians of these are reported. */
  repetitions: number
  /** A timed slice holds as many calls as fit in this time, at least one. */
  sliceMs: number
  /** Idle time between slices, so that the spinning threads of one side do not slow the other. */
  settleMs: number
}

export const FULL: HarnessOptions = { repetitions: 9, sliceMs: 150, settleMs: 50 }
export const QUICK: HarnessOptions = { repetitions: 2, sliceMs: 5, settleMs: 2 }

type Clock = () => number

/**
 * Milliseconds per call: one untimed call, then as many timed ones as fit into `sliceMs`. A call
 * that is ten slices long warms up within itself and is the measurement.
 */
export async function timeSlice(
  run: () => Promise<unknown>,
  sliceMs: number,
  now: Clock = () => performance.now(),
): Promise<number> {
  const first = now()
  await run()
  const once = now() - first
  if (once > 10 * sliceMs) return once
  const calls = Math.max(1, Math.round(sliceMs / Math.max(once, 1e-3)))
  const began = now()
  for (let i = 0; i < calls; i++) await run()
  return (now() - began) / calls
}

/** One way to measure: ours, or one of the peer's. */
interface Contender {
  name: string
  measure: () => Promise<number>
}

/**
 * Measures every contender `repetitions` times in turn, so that a change of the machine's clock
 * or load meets all of them alike. The first round is warm-up and dropped.
 */
export async function interleave(
  contenders: Contender[],
  options: Pick<HarnessOptions, 'repetitions' | 'settleMs'>,
): Promise<Map<string, number[]>> {
  const samples = new Map(contenders.map(({ name }) => [name, [] as number[]]))
  for (let round = 0; round <= options.repetitions; round++) {
    for (const { name, measure } of contenders) {
      await sleep(options.settleMs)
      const value = await measure()
      if (round > 0) samples.get(name)!.push(value)
    }
  }
  return samples
}

/** Runs one case against the peer when there is one. */
export async function runCase(
  bench: BenchCase,
  context: BenchContext,
  peer: Peer | null,
  options: HarnessOptions,
  warn: (line: string) => void = () => {},
): Promise<BenchResult> {
  const prepared = await bench.ours(context)
  try {
    const { run, measure } = prepared
    const ours = measure ?? (() => timeSlice(run!, options.sliceMs))
    const torch =
      peer && bench.peer ? await peerContenders(bench, context, peer, options, warn) : []
    const own = (prepared.rivals ?? []).map(({ name, run }) => ({
      name,
      measure: () => timeSlice(run, options.sliceMs),
    }))
    const samples = await interleave([{ name: '', measure: ours }, ...torch, ...own], {
      ...options,
      repetitions: Math.min(options.repetitions, bench.slow ? 7 : options.repetitions),
    })
    if (torch.length > 0 && bench.peer === 'worker') await peer!.close(bench.id)
    const medians = new Map([...samples].map(([name, values]) => [name, median(values)]))
    const value = medians.get('')!
    medians.delete('')
    return {
      ...summarize(bench, value, medians, torch.length > 0 ? `torch ${peer!.version}` : 'losscape'),
      ...limitOf(prepared.limit),
    }
  } finally {
    await prepared.dispose?.()
  }
}

/** A result without limit: the best of the peer's ways is the peer. */
export function summarize(
  bench: Pick<BenchCase, 'id' | 'what' | 'metric'>,
  ours: number,
  peers: Map<string, number>,
  origin: string,
): BenchResult {
  const better = betterOf(bench.metric)
  const sign = better === 'lower' ? 1 : -1
  const [best = null] = [...peers].sort((a, b) => sign * (a[1] - b[1]))
  return {
    case: bench.id,
    what: bench.what,
    metric: bench.metric,
    ours,
    peer: best?.[1] ?? null,
    peerName: best === null ? null : `${origin} ${best[0]}`,
    peers: best === null ? null : Object.fromEntries(peers),
    ratio: ratio(ours, best?.[1] ?? null, better),
    limit: null,
    limitName: null,
  }
}

function limitOf(limit: { value: number; name: string } | null | undefined) {
  return { limit: limit?.value ?? null, limitName: limit?.name ?? null }
}

async function peerContenders(
  bench: BenchCase,
  context: BenchContext,
  peer: Peer,
  options: HarnessOptions,
  warn: (line: string) => void,
): Promise<Contender[]> {
  const given = { mnist: context.dataRoot === null ? null : `${context.dataRoot}/mnist` }
  const offer = await peer.setup(bench.id, given).catch((error: Error) => error)
  if (offer instanceof Error) {
    warn(`${bench.id}: no peer, ${offer.message}`)
    return []
  }
  const { variants, unavailable } = offer
  for (const [name, reason] of Object.entries(unavailable)) {
    warn(`${bench.id}: the peer cannot do "${name}" (${reason})`)
  }
  if (bench.peer === 'peak') await peer.close(bench.id)
  return variants.map((name) => ({
    name,
    measure: () =>
      bench.peer === 'peak'
        ? peer.peakBytes(bench.id, name)
        : peer.time(bench.id, name, options.sliceMs),
  }))
}
