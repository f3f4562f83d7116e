import { LosscapeError } from '../errors.js'
import { type LinearOperator, oneOf } from './operator.js'

/** Methods of one estimate: by plain probes, by their leave-one-out sketch, by thirds, by columns. */
export interface Methods<M extends string> {
  readonly probes: M
  readonly leaveOneOut: M
  readonly thirds: M
  readonly columns: M
}

export interface SketchBudget<M extends string> {
  readonly method?: M
  readonly products: number
  /** Bytes for the vectors of a sketch. Default 1 GiB. */
  readonly memory?: number
}

const DEFAULT_MEMORY = 1024 ** 3

/**
 * The method asked for, or by default all columns when they are no more than the products, then the
 * leave-one-out sketch when its vectors fit in memory, else plain probes.
 * @throws ERR_ARGUMENT when a method asked for cannot do with the products or the memory
 */
export function chooseMethod<M extends string>(
  { size, dtype }: LinearOperator,
  methods: Methods<M>,
  { method, products, memory = DEFAULT_MEMORY }: SketchBudget<M>,
): M {
  if (!(memory > 0)) {
    throw new LosscapeError('ERR_ARGUMENT', `memory must be positive, got ${String(memory)} bytes.`)
  }
  if (method !== undefined) oneOf('method', method, Object.values<M>({ ...methods }))
  const fewest = method === methods.thirds ? 3 : method === methods.leaveOneOut ? 2 : 1
  if (!Number.isInteger(products) || products < fewest) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `products must be an integer of at least ${fewest}${method ? ` for '${method}'` : ''}, got ${String(products)}.`,
    )
  }
  // Three vectors per row of the sketch, which is a half or a third of the products.
  const vectors = method === methods.thirds ? products : (3 * products) / 2
  const need = vectors * size * (dtype === 'f64' ? 8 : 4)
  if (method === undefined) {
    if (size <= products) return methods.columns
    return products >= 4 && need <= memory ? methods.leaveOneOut : methods.probes
  }
  if ((method === methods.leaveOneOut || method === methods.thirds) && need > memory) {
    const most = Math.floor((memory / need) * products)
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `'${method}' with ${products} products needs ${need} bytes of vectors, memory is ${memory}: at most ${most} products fit; or take '${methods.probes}'.`,
    )
  }
  return method
}
