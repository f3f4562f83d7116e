import type { BenchCase } from '../types.js'
import { ATTENTION } from './attention.js'
import { HVP } from './hvp.js'
import { KARAT } from './karat.js'
import { LANCZOS } from './lanczos.js'
import { SERVICE } from './service.js'
import { SLQ } from './slq.js'
import { TRACE } from './trace.js'
import { TRAIN } from './train.js'
import { VIT } from './vit.js'

/** Every benchmark, in the order in which they run. */
export const CASES: BenchCase[] = [
  ...HVP,
  ...LANCZOS,
  ...SLQ,
  ...TRACE,
  ...TRAIN,
  ...ATTENTION,
  ...KARAT,
  ...VIT,
  ...SERVICE,
]
