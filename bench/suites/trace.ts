import {
  data,
  denseMatrix,
  hessian,
  type LinearOperator,
  models,
  operatorTrace,
  train,
} from '../../lib/index.js'
import { normals } from '../../lib/random/index.js'
import { openDevice } from '../inputs.js'
import type { BenchCase, BenchContext, Prepared } from '../types.js'

const PRODUCTS = 60
const SEEDS = 5

/**
 * The Hessian of a relu network 20-20-20-10 (n = 1050) after 300 steps of gradient descent on ten
 * blobs: few outliers carry most of the trace. Every measurement takes seeds of its own.
 */
async function xtraceError(context: BenchContext): Promise<Prepared> {
  const device = await openDevice(context)
  const set = data.blobs({ classes: 10, dim: 20, std: 4, n: 400 })
  const model = models.mlp({ input: 20, hidden: [20, 20], classes: 10, activation: 'relu' })
  const { params } = await train(device, model, set, {
    optimizer: { kind: 'gd', lr: 0.1 },
    params: normals(1, 0, 0, model.size, new Float64Array(model.size)).map((x) => 0.1 * x),
    steps: 300,
  })
  const operator = hessian(device, model, params, set, { precision: 'f64' })
  const exact = await traceByColumns(operator)
  let seed = 0
  return {
    limit: { value: 1e-2, name: 'wanted' },
    async measure() {
      const seeds = context.quick ? 1 : SEEDS
      let sum = 0
      for (let i = 0; i < seeds; i++) {
        const options = { method: 'xtrace', products: PRODUCTS, seed: seed++ } as const
        const { value } = await operatorTrace(operator, options)
        sum += Math.abs(value / exact - 1)
      }
      return sum / seeds
    },
    dispose() {
      operator.dispose()
      device.dispose()
    },
  }
}

async function traceByColumns(operator: LinearOperator): Promise<number> {
  const { matrix, size } = await denseMatrix(operator)
  let trace = 0
  for (let i = 0; i < size; i++) trace += matrix[i * size + i]
  return trace
}

export const TRACE: BenchCase[] = [
  {
    id: 'trace/xtrace-error',
    what: 'relative error of XTrace at 60 products, n 1050, means over 5 seeds',
    metric: 'relative_error',
    ours: xtraceError,
  },
]
