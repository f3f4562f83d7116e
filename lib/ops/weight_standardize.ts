import { LosscapeError } from '../errors.js'
import { requireOptions } from '../options.js'
import { defineOperation, type MaybeTensor } from '../program/registry.js'
import { elements, range, sameShape } from '../program/shape.js'
import { emit, type Tensor } from '../program/tensor.js'
import { type Attributes, formatType, isFloat, type TensorType } from '../program/types.js'
import { add, mul } from './elementwise.js'
import { broadcastTo, reshape, transpose } from './movement.js'
import { sum } from './reduce.js'
import {
  SETTINGS,
  type StandardizeSettings,
  standardizeAttributes,
  standardizeSettings,
} from './weight-standardize-options.js'
import { bendRow, jacobianRow, standardizedRow } from './weight-standardize-reference.js'

/*
 * Weight standardisation of k banks of filters at once, closed to second order. Per filter (row)
 * with U = w - mean w, r = 1 / sigma(|U|), nu = r kappa, d sigma = kappa U dU:
 *
 *   weight_standardize          w_1 .. w_k [O, ..]                  -> f r U
 *   weight_standardize_jvp      w.., v.. [R, O, ..]                 -> J v = f r (v - mean v - nu <v, U> U)
 *   weight_standardize_vjp_jvp  w.., p.. [O, ..], u.. [R], v.. [R]  -> D(J p)[u] + J v
 *
 * The map is the gradient of a function of |U|: J is symmetric, so one operation serves tangents
 * and cotangents, and D(J p)[u] = D(J u)[p]. Banks do not depend on each other: a rule acts on those
 * that have something to give.
 */

const FAMILY = 'weight_standardize'

type Maybes = readonly MaybeTensor[]

const one = (t: Tensor): Tensor => reshape(t, [1, ...t.shape])
const first = (t: Tensor): Tensor => reshape(t, t.shape.slice(1))
const plus = (a: MaybeTensor, b: MaybeTensor): MaybeTensor => (a && b ? add(a, b) : (a ?? b))

/** Operands are lists of k tensors, one list after another. */
function lists(inputs: readonly Tensor[], count: number): Tensor[][] {
  return range(inputs.length / count).map((l) => inputs.slice(l * count, (l + 1) * count))
}

const banksOf = (attributes: Attributes): number => (attributes.factors as number[]).length

/** Emits the operation for the banks `at` only; results in their order. */
function emitBanks(
  name: string,
  operands: readonly (readonly Tensor[])[],
  at: readonly number[],
  attributes: Attributes,
): Tensor[] {
  const factors = attributes.factors as readonly number[]
  return emit(name, operands.flat(), { ...attributes, factors: at.map((i) => factors[i]) })
}

/** Results of `make` per group of banks of the same kind (null: none), in the order of the banks. */
function byKind<K extends string>(
  count: number,
  kindOf: (bank: number) => K | null,
  make: (kind: K, banks: number[]) => readonly Tensor[],
): MaybeTensor[] {
  const results = new Array<MaybeTensor>(count).fill(null)
  const kinds = range(count).map(kindOf)
  for (const kind of new Set(kinds)) {
    if (kind === null) continue
    const banks = range(count).filter((i) => kinds[i] === kind)
    for (const [n, y] of make(kind, banks).entries()) results[banks[n]] = y
  }
  return results
}

const pick = <T>(list: readonly T[], at: readonly number[]): T[] => at.map((i) => list[i])

/** J v for the banks that have a v; v [R, O, ..]. */
function jacobians(w: readonly Tensor[], v: Maybes, attributes: Attributes): MaybeTensor[] {
  return byKind(
    w.length,
    (i) => (v[i] ? 'own' : null),
    (_, at) =>
      emitBanks('weight_standardize_jvp', [pick(w, at), pick(v, at) as Tensor[]], at, attributes),
  )
}

/** D(J p)[u] + J v for the banks that have p and u, or v; p [O, ..], u and v [R, O, ..]. */
function bends(
  w: readonly Tensor[],
  p: Maybes,
  u: Maybes,
  v: Maybes | null,
  attributes: Attributes,
): MaybeTensor[] {
  const kindOf = (i: number) => {
    const straight = v?.[i] ? 'straight' : null
    if (!p[i] || !u[i]) return straight
    return straight ? 'both' : 'bend'
  }
  return byKind(w.length, kindOf, (kind, at) => {
    const own = pick(w, at)
    const tangents = pick(v ?? [], at) as Tensor[]
    if (kind === 'straight') {
      return emitBanks('weight_standardize_jvp', [own, tangents], at, attributes)
    }
    const operands = [own, pick(p, at) as Tensor[], pick(u, at) as Tensor[]]
    if (kind === 'both') operands.push(tangents)
    const straight = Number(kind === 'both')
    return emitBanks('weight_standardize_vjp_jvp', operands, at, { ...attributes, straight })
  })
}

/** sum over r of D(J a_r)[b_r], both [R, O, ..]: with one tangent as it is, with more as more rows. */
function bendSums(
  w: readonly Tensor[],
  a: readonly Tensor[],
  b: Maybes,
  attributes: Attributes,
): MaybeTensor[] {
  const rows = (t: Tensor): Tensor => reshape(t, [-1, ...t.shape.slice(2)])
  const many = (x: Tensor, i: number): Tensor =>
    a[i].shape[0] === 1 ? x : rows(broadcastTo(x, a[i].shape))
  const results = bends(
    w.map(many),
    a.map(rows),
    b.map((t) => t && one(rows(t))),
    null,
    attributes,
  )
  return results.map((y, i) => y && sum(reshape(y, a[i].shape), [0]))
}

function thirdDerivative(name: string): never {
  throw new LosscapeError(
    'ERR_PROGRAM',
    `'${name}' has no further derivative with respect to the filters: the family is closed to second order. Write the standardisation with mean() and rsqrt() to differentiate it further.`,
  )
}

/** Shapes of the banks; refuses what cannot be standardised. */
function checkFilters(name: string, filters: readonly TensorType[]): void {
  for (const [i, w] of filters.entries()) {
    if (!isFloat(w.dtype) || w.dtype !== filters[0].dtype) {
      throw new LosscapeError(
        'ERR_DTYPE',
        `'${name}' expected filters of one floating-point dtype, got ${formatType(w)} at index ${i}.`,
      )
    }
    if (w.shape.length < 2) {
      throw new LosscapeError(
        'ERR_SHAPE',
        `'${name}' expected filters [O, ..] with the weights of a filter behind O, got ${formatType(w)} at index ${i}.`,
      )
    }
    if (elements(w.shape.slice(1)) < 2) {
      throw new LosscapeError(
        'ERR_SHAPE',
        `'${name}' got ${formatType(w)} at index ${i}: a filter of one weight has no variance. Leave this bank out (1 x 1 depthwise convolutions have such filters).`,
      )
    }
  }
}

function checkTangents(
  name: string,
  operands: readonly TensorType[],
  filters: readonly TensorType[],
  tangents: number | null,
): void {
  for (const [i, x] of operands.entries()) {
    const shape = tangents === null ? filters[i].shape : [tangents, ...filters[i].shape]
    if (x.dtype === filters[i].dtype && sameShape(x.shape, shape)) continue
    throw new LosscapeError(
      'ERR_SHAPE',
      `'${name}' expected ${formatType({ dtype: filters[i].dtype, shape })} for filters ${formatType(filters[i])}, got ${formatType(x)}.`,
    )
  }
}

/** Applies `row` to every row of bank i, for each of the results' tangents. */
function rowsOf(
  types: readonly TensorType[],
  attributes: Attributes,
  results: readonly TensorType[],
  row: (bank: number, fixed: [number, number], moved: [number, number]) => Float64Array,
): Float64Array[] {
  return results.map((result, i) => {
    const out = new Float64Array(elements(result.shape))
    const columns = elements(types[i].shape.slice(1))
    const size = elements(types[i].shape)
    const factor = (attributes.factors as readonly number[])[i]
    for (let at = 0; at < out.length; at += columns) {
      const own = at % size
      const y = row(i, [own, own + columns], [at, at + columns])
      for (let j = 0; j < columns; j++) out[at + j] = factor * y[j]
    }
    return out
  })
}

defineOperation({
  name: 'weight_standardize',
  batching: 'merge',
  family: FAMILY,
  type(inputs) {
    checkFilters('weight_standardize', inputs)
    return inputs.map(({ dtype, shape }) => ({ dtype, shape }))
  },
  evaluate(inputs, types, attributes, results) {
    return rowsOf(types, attributes, results, (i, own) =>
      standardizedRow(inputs[i].slice(...own), attributes),
    )
  },
  jvp({ inputs, attributes }, tangents) {
    const moved = tangents.map((t) => t && one(t))
    return jacobians(inputs, moved, attributes).map((y) => y && first(y))
  },
  vjp({ inputs, attributes }, cotangents, needed) {
    const moved = cotangents.map((c, i) => (c && needed[i] ? one(c) : null))
    return jacobians(inputs, moved, attributes).map((y) => y && first(y))
  },
  vmap(inputs, batched, attributes, size) {
    const results = byKind(
      inputs.length,
      (i) => (batched[i] ? 'mapped' : 'shared'),
      (kind, at) => {
        const own = pick(inputs, at)
        const rows = kind === 'mapped' ? own.map((w) => reshape(w, [-1, ...w.shape.slice(2)])) : own
        return emitBanks('weight_standardize', [rows], at, attributes).map((y, n) =>
          kind === 'mapped' ? reshape(y, own[n].shape) : broadcastTo(y, [size, ...y.shape]),
        )
      },
    )
    return results as Tensor[]
  },
})

/**
 * vmap of the two operations with tangents; `points` lists [O, ..] stand before those with tangents.
 * Tangents alone are mapped to more tangents, anything else to more filters.
 */
function batching(name: string, points: number) {
  return (
    inputs: readonly Tensor[],
    batched: readonly boolean[],
    attributes: Attributes,
    size: number,
  ): Tensor[] => {
    const count = banksOf(attributes)
    const operands = lists(inputs, count)
    const mapped = (l: number, i: number): boolean => batched[l * count + i]
    const kindOf = (i: number) => {
      if (range(points).some((l) => mapped(l, i))) return 'filters'
      return operands.some((_, l) => mapped(l, i)) ? 'tangents' : 'shared'
    }
    const swap = (x: Tensor): Tensor => transpose(x, [1, 0, ...range(x.rank).slice(2)])
    return byKind(count, kindOf, (kind, at) => {
      const all = operands.map((list, l) =>
        at.map((i) => {
          const x = list[i]
          if (kind === 'shared' || (kind === 'tangents' && l < points)) return x
          const full = mapped(l, i) ? x : broadcastTo(x, [size, ...x.shape])
          if (kind === 'tangents' || l < points) return reshape(full, [-1, ...full.shape.slice(2)])
          const turned = swap(full)
          return reshape(turned, [turned.shape[0], -1, ...turned.shape.slice(3)])
        }),
      )
      const results = emitBanks(name, all, at, attributes)
      return results.map((y, n) => {
        const { shape } = operands[0][at[n]]
        const bank = mapped(0, at[n]) ? shape.slice(1) : shape
        if (kind === 'shared') return broadcastTo(y, [size, ...y.shape])
        if (kind === 'tangents') return reshape(y, [size, -1, ...bank])
        return swap(reshape(y, [y.shape[0], size, ...bank]))
      })
    }) as Tensor[]
  }
}

defineOperation({
  name: 'weight_standardize_jvp',
  batching: 'merge',
  family: FAMILY,
  type(inputs, attributes) {
    const [w, v] = typeLists(inputs, banksOf(attributes))
    checkFilters('weight_standardize_jvp', w)
    checkTangents('weight_standardize_jvp', v, w, v[0].shape[0])
    return v.map(({ dtype, shape }) => ({ dtype, shape }))
  },
  evaluate(inputs, types, attributes, results) {
    const count = results.length
    return rowsOf(types, attributes, results, (i, own, moved) =>
      jacobianRow(inputs[i].slice(...own), inputs[count + i].slice(...moved), attributes),
    )
  },
  jvp({ inputs, attributes }, tangents) {
    const count = banksOf(attributes)
    const [w, v] = lists(inputs, count)
    // D(J v_r)[t] = D(J t)[v_r]: t is the same for all tangents v_r.
    return bends(w, tangents.slice(0, count), v, tangents.slice(count), attributes)
  },
  vjp({ inputs, attributes }, cotangents, needed) {
    const count = banksOf(attributes)
    const [w, v] = lists(inputs, count)
    const wanted = (l: number): MaybeTensor[] =>
      cotangents.map((c, i) => (needed[l * count + i] ? c : null))
    return [...bendSums(w, v, wanted(0), attributes), ...jacobians(w, wanted(1), attributes)]
  },
  vmap: batching('weight_standardize_jvp', 1),
})

function typeLists(inputs: readonly TensorType[], count: number): TensorType[][] {
  return range(inputs.length / count).map((l) => inputs.slice(l * count, (l + 1) * count))
}

defineOperation({
  name: 'weight_standardize_vjp_jvp',
  batching: 'merge',
  family: FAMILY,
  type(inputs, attributes) {
    const [w, p, ...moved] = typeLists(inputs, banksOf(attributes))
    const [u] = moved
    checkFilters('weight_standardize_vjp_jvp', w)
    checkTangents('weight_standardize_vjp_jvp', p, w, null)
    for (const list of moved) {
      checkTangents('weight_standardize_vjp_jvp', list, w, u[0].shape[0])
    }
    return u.map(({ dtype, shape }) => ({ dtype, shape }))
  },
  evaluate(inputs, types, attributes, results) {
    const count = results.length
    return rowsOf(types, attributes, results, (i, own, moved) =>
      bendRow(
        inputs[i].slice(...own),
        inputs[count + i].slice(...own),
        inputs[2 * count + i].slice(...moved),
        attributes.straight === 1 ? inputs[3 * count + i].slice(...moved) : null,
        attributes,
      ),
    )
  },
  jvp({ inputs, attributes }, tangents) {
    const count = banksOf(attributes)
    if (tangents.slice(0, count).some(Boolean)) thirdDerivative('weight_standardize_vjp_jvp')
    const [w, p, u] = lists(inputs, count)
    const [tp, tu, tv] = [1, 2, 3].map((l) => tangents.slice(l * count, (l + 1) * count))
    const moved = bends(w, p, tu, tv, attributes)
    return bends(w, tp, u, null, attributes).map((y, i) => plus(y, moved[i]))
  },
  vjp({ inputs, attributes }, cotangents, needed) {
    const count = banksOf(attributes)
    if (cotangents.some((c, i) => c && needed[i])) thirdDerivative('weight_standardize_vjp_jvp')
    const [w, p, u] = lists(inputs, count)
    const wanted = (l: number): MaybeTensor[] =>
      cotangents.map((c, i) => (needed[l * count + i] ? c : null))
    const straight = attributes.straight === 1 ? jacobians(w, wanted(3), attributes) : []
    return [
      ...w.map(() => null),
      ...bendSums(w, u, wanted(1), attributes),
      ...bends(w, p, wanted(2), null, attributes),
      ...straight,
    ]
  },
  vmap: batching('weight_standardize_vjp_jvp', 2),
})

export interface WeightStandardizeOptions extends StandardizeSettings {
  /** Learnable factors per filter, one tensor [O] (or [O, 1, ..]) per bank. Default none. */
  gain?: readonly Tensor[]
  /** Added per filter, as `gain`. Default none. */
  shift?: readonly Tensor[]
}

/**
 * Weight standardisation of all banks of filters of a network in one operation. Per filter w of I
 * weights, with U = w - mean w and q = sum U^2 / (I - delta):
 *
 *     w -> factor * gain * U / sigma + shift
 *
 * sigma = sqrt(q + epsilon) ('in'), sqrt(q) + epsilon ('out'), sqrt(max(sum U^2, epsilon)) ('max').
 * Equal weights give 0; there the gradient of 'out' is r (P - mean P), its sub-gradient without the
 * radial term. Presets: paper, official, official-bcn (the default), bit, timm, timm-scaled, nfnet
 * (the last two with `gain` as their learnable factor).
 *
 * Results do not see a constant added to a filter, nor (up to epsilon) its scale: the loss of a
 * network has exactly flat directions. Apply it to convolutions that a normalisation follows, not
 * to the last layer. Derivatives exist to second order. Cost: 2 passes over the weights forward, 3
 * backward, 5 for a Hessian product.
 *
 * @param filters banks [O, ..] of one dtype; a filter is everything behind O (OIHW weights)
 * @returns one tensor like each bank
 * @throws ERR_SHAPE (a filter of one weight, gain or shift not of O numbers), ERR_DTYPE, ERR_ARGUMENT
 * @see Qiao, Wang, Liu, Shen, Yuille, Micro-Batch Training with Batch-Channel Normalization and
 *   Weight Standardization, arXiv 1903.10520; Brock, De, Smith, arXiv 2101.08692 (gain and 'max')
 * @example
 * trace((w) => weightStandardize([w], { preset: 'bit' })[0], [[64, 3, 7, 7]])
 */
export function weightStandardize(
  filters: readonly Tensor[],
  options: WeightStandardizeOptions = {},
): Tensor[] {
  if (!Array.isArray(filters) || filters.length === 0) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      'weightStandardize() expected an array of one bank of filters or more.',
    )
  }
  requireOptions('weightStandardize()', options, ['gain', 'shift', ...SETTINGS])
  const { gain, shift, ...settings } = options
  const numbers = standardizeSettings('weightStandardize()', settings)
  const sizes = filters.map((w) => elements(w.shape?.slice(1) ?? []))
  const results = emit('weight_standardize', filters, standardizeAttributes(numbers, sizes))
  const scaled = gain ? results.map((y, i) => mul(y, perFilter('gain', gain, y, i))) : results
  return shift ? scaled.map((y, i) => add(y, perFilter('shift', shift, y, i))) : scaled

  function perFilter(name: string, list: readonly Tensor[], y: Tensor, i: number): Tensor {
    if (!Array.isArray(list) || list.length !== filters.length) {
      throw new LosscapeError(
        'ERR_ARGUMENT',
        `weightStandardize() expected ${name} to have one tensor for each of ${filters.length} banks, got ${list?.length}.`,
      )
    }
    const [count] = y.shape
    if (list[i]?.shape?.[0] !== count || elements(list[i].shape) !== count) {
      throw new LosscapeError(
        'ERR_SHAPE',
        `weightStandardize() expected ${name} ${i} to have ${count} numbers, one per filter of ${formatType(y)}, got ${list[i]?.shape ? formatType(list[i]) : String(list[i])}.`,
      )
    }
    return reshape(list[i], [count, ...y.shape.slice(1).map(() => 1)])
  }
}
