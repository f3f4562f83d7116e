/** Models and losses. */
export type { Initializer, Parameter } from './init.js'
export type { FloatVector, LayoutEntry, ParameterLayout } from './layout.js'
export type { Likelihood, Loss, LossSpec } from './loss.js'
export { type Activation, type MlpInit, type MlpOptions, mlp } from './mlp.js'
export {
  type ApplyContext,
  defineModel as define,
  type Model,
  type ModelDefinition,
  type TensorMap,
} from './model.js'
export { type ParseContext, parseModel as parse } from './parse.js'
