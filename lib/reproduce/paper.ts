import type { Device } from '../device/device.js'
import type { ReportSection } from '../report/data.js'
import type { Claim } from './verdicts.js'

/** What a user asks of any reproduction. */
export interface ReproduceRequest {
  /** Seeds 0, 1, ...: at least 1; fewer than 3 say little. */
  readonly seeds: number
  /** The sizes of the paper, as far as they are known, instead of small ones. */
  readonly full: boolean
  /** A data set description for the parts that can use real data. */
  readonly data?: string
}

/** What one experiment is run with. */
export interface ExperimentContext<Settings> {
  readonly device: Device
  readonly settings: Settings
  readonly seed: number
  readonly signal?: AbortSignal
  /** Share done, in [0, 1], and what is under way. */
  readonly onProgress: (share: number, note: string) => void
}

/**
 * One experiment of a paper. `run` returns plain JSON, which is kept per seed: same settings and
 * seed, same result.
 */
export interface Experiment<Settings, Result> {
  readonly title: string
  /** Expected share of the whole time, for the progress bar. */
  readonly weight: number
  /** The settings that its result depends on; a change of others leaves finished parts valid. */
  dependsOn(settings: Settings): unknown
  run(context: ExperimentContext<Settings>): Promise<Result>
}

/** Results of all experiments by name, one of each for every seed. */
export type Results<R> = { readonly [K in keyof R]: readonly SeedResult<R[K]>[] }

export interface SeedResult<Result> {
  readonly seed: number
  readonly result: Result
}

/** What the results say. */
export interface Conclusion {
  readonly claims: readonly Claim[]
  /** Text, tables and pictures for the report. */
  readonly sections: readonly ReportSection[]
}

/** A paper's experiments. A further paper is one more of these in `papers`. */
export interface Paper<Settings = unknown, R extends object = Record<string, unknown>> {
  /** `losscape reproduce NAME` */
  readonly name: string
  readonly title: string
  readonly reference: string
  /** Every number that the experiments depend on, as plain JSON. */
  settings(request: ReproduceRequest): Settings
  /** Those that run under these settings, in order. */
  experiments(settings: Settings): { readonly [K in keyof R]?: Experiment<Settings, R[K]> }
  /** A pure function of the results. */
  conclude(results: Results<R>, settings: Settings): Conclusion
}
