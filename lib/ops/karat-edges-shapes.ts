import { LosscapeError } from '../errors.js'
import { range, sameShape } from '../program/shape.js'
import { emit, type Tensor } from '../program/tensor.js'
import { type Attributes, formatType, isFloat, type TensorType } from '../program/types.js'
import { broadcastTo, reshape, transpose } from './movement.js'

/**
 * B samples, H heads, N queries, M keys, D head width, P parameters an edge, r latent numbers, E
 * parameter sets (sample b has set floor(b E / B)).
 */
export interface EdgeSizes {
  readonly B: number
  readonly H: number
  readonly N: number
  readonly M: number
  readonly D: number
  readonly P: number
  readonly r: number
  readonly E: number
}

/** The operations of the family: tangents that they take, and whether they pull a cotangent back. */
export const EDGE_FORMS: Readonly<Record<string, { order: 0 | 1 | 2; backward: boolean }>> = {
  karat_edges: { order: 0, backward: false },
  karat_edges_vjp: { order: 0, backward: true },
  karat_edges_jvp: { order: 1, backward: false },
  karat_edges_vjp_jvp: { order: 1, backward: true },
  karat_edges_jvp_jvp: { order: 2, backward: false },
}

/** q, k, theta [, mask] */
export const edgeHeadCount = (attributes: Attributes): number => 3 + (attributes.masked as number)

/** Operands without the leading axis of tangents. */
const plainCount = (name: string, attributes: Attributes): number =>
  edgeHeadCount(attributes) + Number(EDGE_FORMS[name].backward)

/** Operands of each tangent: of q, k, theta and, backward, of g. */
const tangentCount = (name: string): number => (EDGE_FORMS[name].backward ? 4 : 3)

/** Checks the operands. Throws ERR_SHAPE or ERR_DTYPE. */
export function edgeSizes(
  name: string,
  inputs: readonly TensorType[],
  attributes: Attributes,
): EdgeSizes {
  const [q, k, theta] = inputs
  const tokensFirst = attributes.layout === 'bnhd'
  const form = tokensFirst ? '[B, N, H, D]' : '[B, H, N, D]'
  const refuse = (what: string, got: TensorType): never => {
    throw new LosscapeError('ERR_SHAPE', `'${name}' expected ${what}, got ${formatType(got)}.`)
  }
  for (const [i, x] of [q, k, theta].entries()) {
    if (!isFloat(x.dtype) || x.dtype !== q.dtype) {
      throw new LosscapeError(
        'ERR_DTYPE',
        `'${name}' expected q, k and parameters of one floating-point dtype, got ${formatType(x)} as operand ${i}.`,
      )
    }
  }
  if (q.shape.length !== 4) refuse(`q ${form}`, q)
  if (k.shape.length !== 4) refuse(`k ${form.replace('N', 'M')}`, k)
  const [head, token] = tokensFirst ? [2, 1] : [1, 2]
  const [B, D] = [q.shape[0], q.shape[3]]
  const [H, N, M] = [q.shape[head], q.shape[token], k.shape[token]]
  const P = attributes.basis === 'rational' ? 10 : 3
  const tokens = (n: number): number[] => (tokensFirst ? [B, n, H, D] : [B, H, n, D])
  if (!sameShape(k.shape, tokens(M))) refuse(`k [${tokens(M)}] for q [${q.shape}]`, k)
  const [E, , , , r] = theta.shape
  if (theta.shape.length !== 5 || !sameShape(theta.shape, [E, H, P, M, r])) {
    refuse(`parameters [E, H, P, M, r] = [E, ${H}, ${P}, ${M}, r] for ${M} keys`, theta)
  }
  if (E < 1 || B % E !== 0) refuse(`parameter sets that divide ${B} samples`, theta)
  if (attributes.masked) {
    const mask = inputs[3]
    if (mask.dtype !== 'u8' && mask.dtype !== 'i32') {
      throw new LosscapeError(
        'ERR_DTYPE',
        `'${name}' expected a key mask of u8 or i32, got ${formatType(mask)}.`,
      )
    }
    if (!sameShape(mask.shape, [B, M])) refuse(`a key mask [B, M] = [${B}, ${M}]`, mask)
  }
  const heads = edgeHeadCount(attributes)
  const latent = [B, H, N, r]
  const { backward } = EDGE_FORMS[name]
  if (backward) expect(`a cotangent [${latent}]`, inputs[heads], latent)
  const plain = plainCount(name, attributes)
  const shapes = [q.shape, k.shape, theta.shape, latent]
  for (let i = plain; i < inputs.length; i++) {
    const shape = [inputs[plain].shape[0], ...shapes[(i - plain) % tangentCount(name)]]
    expect(`a tangent [R, ..] = [${shape}] as operand ${i}`, inputs[i], shape)
  }
  return { B, H, N, M, D, P, r, E }

  function expect(what: string, type: TensorType, shape: readonly number[]): void {
    if (!sameShape(type.shape, shape)) refuse(what, type)
    if (type.dtype !== q.dtype) {
      throw new LosscapeError(
        'ERR_DTYPE',
        `'${name}' expected ${what} of ${q.dtype}, got ${formatType(type)}.`,
      )
    }
  }
}

/** Result types of an operation of the family. */
export function edgeTypes(
  name: string,
  inputs: readonly TensorType[],
  attributes: Attributes,
): TensorType[] {
  const { B, H, N, r } = edgeSizes(name, inputs, attributes)
  const { order, backward } = EDGE_FORMS[name]
  const lead = order === 0 ? [] : [inputs[plainCount(name, attributes)].shape[0]]
  const [q, k, theta] = inputs
  const shapes = backward ? [q.shape, k.shape, theta.shape] : [[B, H, N, r]]
  return shapes.map((shape) => ({ dtype: q.dtype, shape: [...lead, ...shape] }))
}

const swapAxes = (x: Tensor): Tensor => transpose(x, [1, 0, ...range(x.rank).slice(2)])

/** Joins the mapped axis 0 with the axis of samples (of parameter sets), behind that of tangents. */
function merge(x: Tensor, tangent: boolean): Tensor {
  if (!tangent) return reshape(x, [x.shape[0] * x.shape[1], ...x.shape.slice(2)])
  const moved = swapAxes(x)
  const [R, size, n, ...rest] = moved.shape
  return reshape(moved, [R, size * n, ...rest])
}

function split(y: Tensor, tangent: boolean, size: number): Tensor {
  if (!tangent) return reshape(y, [size, y.shape[0] / size, ...y.shape.slice(1)])
  const [R, n, ...rest] = y.shape
  return swapAxes(reshape(y, [R, size, n / size, ...rest]))
}

/**
 * An operation of the family over a leading axis of the operands marked `batched`: more tangents
 * when only tangents have it, else more samples.
 */
export function mapEdges(
  name: string,
  inputs: readonly Tensor[],
  batched: readonly boolean[],
  attributes: Attributes,
  size: number,
): Tensor[] {
  const { order, backward } = EDGE_FORMS[name]
  const plain = plainCount(name, attributes)
  const repeated = (x: Tensor, i: number): Tensor =>
    batched[i] ? x : broadcastTo(x, [size, ...x.shape])
  if (batched.every((is, i) => !is || i >= plain)) {
    const operands = inputs.map((x, i) => (i < plain ? x : merge(repeated(x, i), false)))
    return emit(name, operands, attributes).map((y) => split(y, false, size))
  }
  const isTheta = (i: number): boolean =>
    i === 2 || (i >= plain && (i - plain) % tangentCount(name) === 2)
  // One set for all samples can stay that, unless it is differentiated apart or moved apart.
  const shared =
    !backward && inputs[2].shape[0] === 1 && batched.every((is, i) => !is || !isTheta(i))
  const operands = inputs.map((x, i) =>
    shared && isTheta(i) ? x : merge(repeated(x, i), i >= plain),
  )
  return emit(name, operands, attributes).map((y) => split(y, order > 0, size))
}
