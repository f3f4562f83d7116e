import type { DataSet } from '../../lib/data/dataset.js'
import { uniforms } from '../../lib/random/index.js'

/** N random samples of d features with labels 0 .. classes-1 in turn. */
export function data(size: number, features: number, classes: number): DataSet {
  return {
    name: 'random',
    size,
    shape: [features],
    inputs: Float32Array.from(uniforms(8, 0, 0, size * features), (u) => 2 * u - 1),
    targets: Int32Array.from({ length: size }, (_, i) => i % classes),
    targetShape: [],
    classes,
    normalization: { mean: [0], std: [1] },
  }
}
