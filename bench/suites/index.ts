import type { BenchCase } from '../types.js'
import { reorthogonalization } from './reorthogonalization.js'

/** Every benchmark, in the order in which they run. */
export const CASES: BenchCase[] = [reorthogonalization]
