export type { FloatArray } from './distributions.js'
export {
  fillSlices,
  integers,
  normals,
  permutation,
  rademacher,
  uniforms,
} from './distributions.js'
export { inverseNormal } from './elementary.js'
export type { Word64 } from './philox.js'
export { philoxBlock, words } from './philox.js'
export type { StreamPurpose } from './streams.js'
export { stream } from './streams.js'
