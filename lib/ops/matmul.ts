import { LosscapeError } from '../errors.js'
import { defineOperation } from '../program/registry.js'
import {
  broadcastShapes,
  elements,
  range,
  sameShape,
  stridedOffsets,
  stridesOf,
} from '../program/shape.js'
import { emitOne, type Tensor } from '../program/tensor.js'
import {
  type Attributes,
  formatType,
  isFloat,
  type Shape,
  type TensorType,
} from '../program/types.js'
import { reshape } from './movement.js'
import { sum } from './reduce.js'

interface Sizes {
  batch: Shape
  m: number
  k: number
  n: number
}

function sizes(a: TensorType, b: TensorType, transA: boolean, transB: boolean): Sizes {
  const flag = (t: boolean) => (t ? 'ᵀ' : '')
  const refuse = (why: string): never => {
    throw new LosscapeError(
      'ERR_SHAPE',
      `'matmul' of ${formatType(a)}${flag(transA)} and ${formatType(b)}${flag(transB)}: ${why}`,
    )
  }
  if (a.shape.length < 2 || b.shape.length < 2) refuse('both operands need at least two axes.')
  const [a0, a1] = a.shape.slice(-2)
  const [b0, b1] = b.shape.slice(-2)
  const [m, k] = transA ? [a1, a0] : [a0, a1]
  const [k2, n] = transB ? [b1, b0] : [b0, b1]
  if (k !== k2) refuse(`inner sizes ${k} and ${k2} differ.`)
  return { batch: broadcastShapes(a.shape.slice(0, -2), b.shape.slice(0, -2)), m, k, n }
}

/** Row offsets of each matrix of a batch, broadcast to the result's batch. */
function matrixOffsets(type: TensorType, batch: Shape): Int32Array {
  const own = type.shape.slice(0, -2)
  const strides = stridesOf(type.shape)
  const skip = batch.length - own.length
  const aligned = batch.map((_, i) => (i < skip || own[i - skip] === 1 ? 0 : strides[i - skip]))
  return stridedOffsets(batch, aligned)
}

const PRODUCT = defineOperation({
  name: 'matmul',
  batching: 'merge',
  type([a, b, c], { transA, transB }) {
    const { batch, m, n } = sizes(a, b, transA === 1, transB === 1)
    if (a.dtype !== b.dtype || !isFloat(a.dtype)) {
      throw new LosscapeError(
        'ERR_DTYPE',
        `'matmul' expected two operands of one floating-point dtype, got ${formatType(a)} and ${formatType(b)}.`,
      )
    }
    const result = { dtype: a.dtype, shape: [...batch, m, n] }
    if (c && !(c.dtype === result.dtype && sameShape(c.shape, result.shape))) {
      throw new LosscapeError(
        'ERR_SHAPE',
        `'matmul' accumulates onto ${formatType(result)}, got ${formatType(c)}.`,
      )
    }
    return [result]
  },
  evaluate([a, b, c], [ta, tb], { transA, transB }, [result]) {
    const { batch, m, k, n } = sizes(ta, tb, transA === 1, transB === 1)
    const out = c ? c.slice() : new Float64Array(elements(result.shape))
    const [am, ak] = transA === 1 ? [1, m] : [k, 1]
    const [bk, bn] = transB === 1 ? [1, k] : [n, 1]
    const aAt = matrixOffsets(ta, batch)
    const bAt = matrixOffsets(tb, batch)
    for (let i = 0; i < aAt.length; i++) {
      for (let r = 0; r < m; r++) {
        const row = (i * m + r) * n
        for (let q = 0; q < k; q++) {
          const x = a[aAt[i] + r * am + q * ak]
          for (let s = 0; s < n; s++) out[row + s] += x * b[bAt[i] + q * bk + s * bn]
        }
      }
    }
    return [out]
  },
  // The addend appears when a program is lowered, after which nothing is differentiated or mapped.
  jvp({ inputs: [a, b], attributes }, [ta, tb]) {
    const terms: Tensor[] = []
    if (ta) terms.push(emitOne('matmul', [ta, b], attributes))
    if (tb) terms.push(emitOne('matmul', [a, tb], attributes))
    return [terms.reduce((s, t) => emitOne('add', [s, t]))]
  },
  vjp({ inputs: [a, b], attributes }, [ct], needed) {
    if (!ct) return [null, null]
    const transA = attributes.transA === 1
    const transB = attributes.transB === 1
    const product = (x: Tensor, y: Tensor, tx: boolean, ty: boolean): Tensor =>
      emitOne('matmul', [x, y], { transA: Number(tx), transB: Number(ty) })
    const forA = (): Tensor =>
      transA ? product(b, ct, transB, true) : product(ct, b, false, !transB)
    const forB = (): Tensor =>
      transB ? product(ct, a, true, transA) : product(a, ct, !transA, false)
    return [
      needed[0] ? sumToShape(forA(), a.shape) : null,
      needed[1] ? sumToShape(forB(), b.shape) : null,
    ]
  },
  vmap([a, b], batched, attributes) {
    return [batchProduct(a, b, batched, attributes.transA === 1, attributes.transB === 1)]
  },
})

/**
 * a b + a' b' [+ c] of operands a, b, a', b' [, c]: lowering makes it of two small products whose
 * sum then stays in registers. It has no derivatives.
 */
defineOperation({
  name: 'matmul_pair',
  type([a, b, a2, b2, c], attributes) {
    const [first] = PRODUCT.type(c ? [a, b, c] : [a, b], attributes)
    return PRODUCT.type([a2, b2, first], second(attributes))
  },
  evaluate([a, b, a2, b2, c], [ta, tb, ta2, tb2, tc], attributes, results) {
    const types = tc ? [ta, tb, tc] : [ta, tb]
    const [sum] = PRODUCT.evaluate(c ? [a, b, c] : [a, b], types, attributes, results)
    return PRODUCT.evaluate([a2, b2, sum], [ta2, tb2, results[0]], second(attributes), results)
  },
})

/** Attributes of the second product of a pair, as those of a product. */
function second({ transA2, transB2 }: Attributes): Attributes {
  return { transA: transA2, transB: transB2 }
}

/** One product over a leading axis: merged into the rows of a where possible, else a batch axis. */
function batchProduct(
  a: Tensor,
  b: Tensor,
  batched: readonly boolean[],
  transA: boolean,
  transB: boolean,
): Tensor {
  const attributes = { transA: Number(transA), transB: Number(transB) }
  if (batched[0] && !batched[1] && !transA && b.rank === 2) {
    const flat = reshape(a, [-1, a.shape.at(-1) as number])
    const y = emitOne('matmul', [flat, b], attributes)
    return reshape(y, [...a.shape.slice(0, -1), y.shape[1]])
  }
  // The leading axis has to stand before the batch axes of the operand with more of them.
  const inner = Math.max(a.rank - Number(batched[0]), b.rank - Number(batched[1]))
  const align = (x: Tensor, is: boolean): Tensor =>
    is && x.rank - 1 < inner
      ? reshape(x, [
          x.shape[0],
          ...new Array<number>(inner - x.rank + 1).fill(1),
          ...x.shape.slice(1),
        ])
      : x
  return emitOne('matmul', [align(a, batched[0]), align(b, batched[1])], attributes)
}

/** Sums the axes along which an operand of `shape` was broadcast. */
export function sumToShape(x: Tensor, shape: Shape): Tensor {
  if (sameShape(x.shape, shape)) return x
  const skip = x.rank - shape.length
  const axes = range(x.rank).filter(
    (axis) => axis < skip || (shape[axis - skip] === 1 && x.shape[axis] !== 1),
  )
  return reshape(sum(x, axes), shape)
}

/**
 * Matrix product y[.., i, j] = sum_k a[.., i, k] b[.., k, j]; leading axes broadcast, a matrix b
 * shared by a batch is one product over all rows. Vectors: give them an axis with reshape().
 *
 * @param options.transA read a as [.., K, M]; `transB`: read b as [.., N, K]
 * @throws ERR_SHAPE, ERR_DTYPE
 */
export function matmul(
  a: Tensor,
  b: Tensor,
  options: { transA?: boolean; transB?: boolean } = {},
): Tensor {
  const { transA = false, transB = false } = options
  if (!transA && a.rank > 2 && b.rank === 2) {
    return batchProduct(a, b, [true, false], transA, transB)
  }
  return emitOne('matmul', [a, b], { transA: Number(transA), transB: Number(transB) })
}
