import type { BenchCase } from '../types.js'
import { ATTENTION } from './attention.js'
import { CONV } from './conv.js'
import { HVP } from './hvp.js'
import { KARAT } from './karat.js'
import { LANCZOS } from './lanczos.js'
import { NORM } from './norm.js'
import { RESNET20 } from './resnet20.js'
import { SERVICE } from './service.js'
import { SLQ } from './slq.js'
import { TRACE } from './trace.js'
import { TRAIN } from './train.js'
import { VIT } from './vit.js'
import { WS } from './ws.js'

/** Every benchmark, in the order in which they run. */
export const CASES: BenchCase[] = [
  ...HVP,
  ...LANCZOS,
  ...SLQ,
  ...TRACE,
  ...TRAIN,
  ...ATTENTION,
  ...CONV,
  ...KARAT,
  ...VIT,
  ...NORM,
  ...WS,
  ...RESNET20,
  ...SERVICE,
]
