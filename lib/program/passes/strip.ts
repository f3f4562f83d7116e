import type { Program } from '../types.js'
import { rewrite } from './rewrite.js'

/** Removes markers that mean nothing to a device: taps that nobody asked for and stopGradient. */
export function stripMarkers(program: Program): Program {
  return rewrite(program, (op) =>
    op.name === 'tap' || op.name === 'stop_gradient' ? op.inputs : null,
  )
}
