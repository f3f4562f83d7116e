// A model of one's own: declare parameters, write the function. Training, products with the
// Hessian and everything built on them follow.
//   node examples/custom-model.js
import { data, hessian, lanczos, models, open, ops, train } from 'losscape'

const normal = (std) => ({ kind: 'normal', std })
const model = models.define({
  name: 'gated',
  input: [2],
  output: [3],
  parameters: [
    { name: 'value', shape: [2, 24], init: normal(0.7) },
    { name: 'gate', shape: [2, 24], init: normal(0.7) },
    { name: 'out', shape: [24, 3], init: normal(0.3) },
  ],
  apply: ({ value, gate, out }, x) =>
    ops.matmul(ops.mul(ops.tanh(ops.matmul(x, value)), ops.sigmoid(ops.matmul(x, gate))), out),
})

const device = await open()
const set = data.blobs({ n: 600, classes: 3, dim: 2, std: 1 })
const run = await train(device, model, set, { optimizer: { kind: 'adam', lr: 0.01 }, epochs: 20 })
const H = hessian(device, model, run.params, set, { params: 'gate' })
const { values } = await lanczos(H, { k: 3 })

console.log(`${model.size} parameters, accuracy ${run.metrics.at(-1).accuracy.toFixed(3)}`)
console.log('sharpest directions of the gate', [...values].map((x) => x.toFixed(4)).join(' '))

H.dispose()
device.dispose()
