// Trains a small network on the generated images and looks at the spectrum of its Hessian.
//   node examples/quickstart.js
import { data, density, hessian, lanczos, models, open, slq, train } from 'losscape'

const device = await open({ threads: 2 })
const set = await data.load('glyphs', { limit: 2000 })
const model = models.mlp({ input: set.shape, hidden: [32], classes: 10, activation: 'relu' })
const run = await train(device, model, set, {
  optimizer: { kind: 'sgd', lr: 0.1, momentum: 0.9 },
  epochs: 4,
  seed: 1,
})
const H = hessian(device, model, run.params, set)
const ends = await lanczos(H, { k: 6, which: 'both-ends' })
const spectrum = await slq(H, { probes: 5, steps: 30 })

console.log(`n = ${H.size}, training accuracy ${run.metrics.at(-1).accuracy}`)
console.log('largest and smallest eigenvalues', [...ends.values].map((x) => x.toFixed(3)).join(' '))
console.log(`trace ${spectrum.trace.value.toFixed(1)} ± ${spectrum.trace.standardError.toFixed(1)}`)

const { grid, values } = density(spectrum)
const peak = values.indexOf(Math.max(...values))
console.log(`the density peaks at ${grid[peak].toFixed(3)}: most directions are nearly flat`)

H.dispose()
device.dispose()
