// Any traced function can be differentiated, mapped and run on a device: Rosenbrock's valley, its
// gradient and a product with its Hessian, at several points at once.
//   node examples/transforms.js
import {
  compile,
  evaluateReference,
  formatProgram,
  grad,
  hessianVectorProduct,
  open,
  ops,
  trace,
  vmap,
} from 'losscape'

const rosenbrock = (p) => {
  const x = ops.slice(p, [0], [1])
  const y = ops.slice(p, [1], [1])
  const a = ops.sub(1, x)
  const b = ops.sub(y, ops.mul(x, x))
  return ops.sum(ops.add(ops.mul(a, a), ops.mul(100, ops.mul(b, b))))
}
const both = vmap((p, v) => [grad(rosenbrock)(p), ...hessianVectorProduct(rosenbrock)([p], [v])])
const program = trace(both, [
  [3, 2],
  [3, 2],
])
const points = [-1.2, 1, 0, 0, 1, 1]
const vectors = [1, 0, 1, 0, 1, 0]

const device = await open()
const executable = compile(device, program, { precision: 'f64' })
const [gradients, products] = await executable.run([points, vectors])
const [reference] = evaluateReference(program, [points, vectors])
console.log(`${formatProgram(program).split('\n').length} operations`)
console.log('gradients', [...gradients].map((x) => x.toFixed(4)).join(' '))
console.log('Hessian times (1, 0)', [...products].map((x) => x.toFixed(4)).join(' '))
console.log(
  `difference to the reference ${Math.max(...gradients.map((x, i) => Math.abs(x - reference[i])))}`,
)

executable.dispose()
device.dispose()
