import { bcnPaper } from './bcn/paper.js'
import { hessianPaper } from './hessian/paper.js'
import { karatPaper } from './karat/paper.js'
import type { Paper } from './paper.js'

/** The papers that `losscape reproduce` knows, by name. */
export const papers: Readonly<Record<string, Paper<never, never>>> = {
  [hessianPaper.name]: hessianPaper as unknown as Paper<never, never>,
  [karatPaper.name]: karatPaper as unknown as Paper<never, never>,
  [bcnPaper.name]: bcnPaper as unknown as Paper<never, never>,
}

export { bcnPaper } from './bcn/paper.js'
export { hessianPaper } from './hessian/paper.js'
export { karatPaper } from './karat/paper.js'
export type { Conclusion, Experiment, Paper, ReproduceRequest, Results } from './paper.js'
export { type ReproduceOptions, type Reproduction, reproduce } from './run.js'
export { type Claim, judge, type Threshold, type Verdict, verdictOf } from './verdicts.js'
