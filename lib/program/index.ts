/** Programs, tracing and transforms. */
export { type EncodedProgram, encode, runDtype } from './encode.js'
export { evaluate } from './evaluate.js'
export {
  type ArgumentSelection,
  grad,
  hessianVectorProduct,
  jvp,
  linearize,
  valueAndGrad,
  vjp,
  vmap,
} from './functions.js'
export { jvpProgram } from './jvp.js'
export { type LinearInput, type Linearized, linearizeProgram, splitLinear } from './linearize.js'
export { lower, simplify } from './passes/index.js'
export { formatProgram } from './print.js'
export { operationNames } from './registry.js'
export { tapNames, withTaps } from './taps.js'
export { Tensor } from './tensor.js'
export { inline, type TracedFunction, trace } from './trace.js'
export {
  BYTES,
  type DType,
  type Operation,
  type Program,
  type Shape,
  type TensorType,
  type Value,
} from './types.js'
export { verify } from './verify.js'
export { gradProgram, vjpProgram } from './vjp.js'
export { vmapProgram } from './vmap.js'
