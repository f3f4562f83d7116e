import type { MachineDescription } from './machine.js'

/** What a case measures, in its unit. More of a share of what the machine can do is better. */
export type Metric =
  | 'time_ms'
  | 'peak_bytes'
  | 'p99_ms'
  | 'bandwidth_share'
  | 'floor_share'
  | 'relative_error'

/** A physical floor (or another reference value) in the unit of the case's metric. */
export interface Limit {
  value: number
  name: string
}

/** Rates of this machine, measured natively; null when that gave no number. */
export interface MachineRates {
  /** Bytes per second, read plus written, at that working set; measured anew by every call. */
  copyBandwidth(bytes: number): Promise<number | null>
  /** FLOP per second of the best single-precision matrix product at 2048 x 2048 x 2048 (512 when quick). */
  gemmRate(): Promise<number | null>
}

export interface BenchContext {
  device: string
  threads: number
  quick: boolean
  rates: MachineRates
  /** Folder of the real data sets, or null where it is absent. */
  dataRoot: string | null
}

/** Our side of a case, set up and ready to be measured. */
export interface Prepared {
  /** One call of what is timed. Cases of metric `time_ms` have this one. */
  run?: () => Promise<unknown>
  /** One measurement in the case's unit. Cases of the other metrics have this one. */
  measure?: () => Promise<number>
  limit?: Limit | null
  /** Other ways of ours that do the same, measured as the peer. */
  rivals?: { name: string; run: () => Promise<unknown> }[]
  dispose?: () => void | Promise<void>
}

export interface BenchCase {
  /** `suite/name`, stable. */
  id: string
  what: string
  metric: Metric
  /** `worker`: timed in one long-lived process; `peak`: a fresh process per measurement. */
  peer?: 'worker' | 'peak'
  /** A measurement takes seconds: take no more of them than the seven that a median needs. */
  slow?: boolean
  ours: (context: BenchContext) => Promise<Prepared>
}

/** One line of the report; the keys are a contract. Times in ms, sizes in bytes. */
export interface BenchResult {
  case: string
  what: string
  metric: Metric
  ours: number | null
  peer: number | null
  peerName: string | null
  /** Median of every way the peer offers. */
  peers: Record<string, number> | null
  /** Above 1: ours is better. */
  ratio: number | null
  limit: number | null
  limitName: string | null
}

export interface BenchReport {
  machine: MachineDescription
  results: BenchResult[]
}

export function betterOf(metric: Metric): 'lower' | 'higher' {
  return metric === 'bandwidth_share' || metric === 'floor_share' ? 'higher' : 'lower'
}
