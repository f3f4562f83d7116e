// Lanczos takes any symmetric operator: here the one-dimensional Laplacian as a plain function,
// whose eigenvalues are known: 4 sin²(kπ / 2(n + 1)).
//   node examples/user-operator.js
import { checkOperator, lanczos, operatorFrom } from 'losscape'

const n = 150
const laplacian = operatorFrom((v) => v.map((x, i) => 2 * x - (v[i - 1] ?? 0) - (v[i + 1] ?? 0)), n)
await checkOperator(laplacian)
const { values, residuals, steps } = await lanczos(laplacian, { k: 4, maxSteps: n, tol: 1e-10 })
const exact = (k) => 4 * Math.sin((k * Math.PI) / (2 * (n + 1))) ** 2

console.log(`${steps} products`)
for (const [i, value] of values.entries()) {
  const error = Math.abs(value - exact(n - i))
  console.log(
    `${value.toFixed(12)}  residual ${residuals[i].toExponential(1)}  error ${error.toExponential(1)}`,
  )
}
