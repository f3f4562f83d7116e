import { requireArguments } from '../../arguments.js'
import type { Program } from '../types.js'
import { accumulateProducts } from './accumulate.js'
import { eliminateCommon } from './common.js'
import { eliminateDead } from './dead.js'
import { fold } from './fold.js'
import { fuseElementwise } from './fuse.js'
import { scheduleLate } from './schedule.js'
import { stripMarkers } from './strip.js'

/** Passes that leave a program differentiable: folding, common subexpressions, dead code. */
export function simplify(program: Program): Program {
  requireArguments('simplify()', { program })
  // Folding reads operands through what it has already rewritten; the second round sees what
  // common subexpressions brought together.
  const once = eliminateDead(eliminateCommon(fold(program)))
  return eliminateDead(eliminateCommon(fold(once)))
}

/** Prepares a program for a device; the result cannot be differentiated any more. */
export function lower(program: Program): Program {
  return scheduleLate(fuseElementwise(accumulateProducts(simplify(stripMarkers(program)))))
}
