// Where n is small the whole Hessian can be had: Lanczos and quadrature against LAPACK, and the
// decomposition H = G + F into Gauss-Newton matrix and remainder.
//   node examples/dense-check.js
import {
  data,
  exactSpectrum,
  gaussNewton,
  hessian,
  lanczos,
  models,
  open,
  remainder,
  slq,
  train,
} from 'losscape'

const device = await open()
const set = data.blobs({ n: 300, classes: 3, dim: 4, std: 2 })
const model = models.mlp({ input: [4], hidden: [8], classes: 3, activation: 'tanh' })
const run = await train(device, model, set, { optimizer: { kind: 'adam', lr: 0.01 }, epochs: 10 })
const [H, G, F] = [hessian, gaussNewton, remainder].map((matrix) =>
  matrix(device, model, run.params, set, { precision: 'f64' }),
)

const { values } = await exactSpectrum(H)
const top = await lanczos(H, { k: 3 })
const trace = values.reduce((sum, x) => sum + x, 0)
const estimate = await slq(H, { probes: 100, steps: 40 })
console.log(
  `largest eigenvalue ${values.at(-1).toFixed(10)}, by Lanczos ${top.values[0].toFixed(10)}`,
)
console.log(
  `trace ${trace.toFixed(4)}, by quadrature ${estimate.trace.value.toFixed(4)} ` +
    `± ${estimate.trace.standardError.toFixed(4)}`,
)

const v = Float64Array.from({ length: H.size }, (_, i) => Math.sin(i + 1))
const [h, g, f] = await Promise.all([H, G, F].map((matrix) => matrix.matvec(v)))
const gap = Math.max(...h.map((x, i) => Math.abs(x - g[i] - f[i])))
console.log(`largest |H v - (G v + F v)| = ${gap.toExponential(1)}`)

for (const matrix of [H, G, F]) matrix.dispose()
device.dispose()
