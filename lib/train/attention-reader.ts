import type { DataSet } from '../data/dataset.js'
import type { Device } from '../device/device.js'
import { compile, type Executable } from '../device/executable.js'
import { LosscapeError } from '../errors.js'
import type { NumericArray } from '../native.js'
import { type AttentionAnatomy, attentionAnatomy } from '../nn/attention/anatomy.js'
import { attendWeights, attentionScores, type BlockAttention } from '../nn/attention/attend.js'
import { karatWeights } from '../nn/attention/karat.js'
import { batchTypes, normalizeBatch } from '../nn/batch.js'
import type { FloatVector } from '../nn/layout.js'
import type { Model, TensorMap } from '../nn/model.js'
import * as ops from '../ops/index.js'
import { simplify } from '../program/passes/index.js'
import { tapNames, withTaps } from '../program/taps.js'
import type { Tensor } from '../program/tensor.js'
import { trace } from '../program/trace.js'
import type { Program, TensorType } from '../program/types.js'

/** Scores and weights of one block for some images. */
export interface BlockMatrices {
  readonly block: number
  /** Rows of the data set. */
  readonly images: readonly number[]
  /** x = s q kᵀ before softmax or the learnable functions: [images, H, N, N]. */
  readonly scores: FloatVector
  /** What multiplies the values: [images, H, N, N]; signed for learnable heads. */
  readonly weights: FloatVector
  /** Queries times s, and keys: [images, N, H, D]. Scores are their products. */
  readonly queries: FloatVector
  readonly keys: FloatVector
  /** Factors of the weights of a head where they are Z Wᵀ of rank r < N, else null. */
  readonly factors: readonly (HeadFactors | null)[]
}

/** W [N, r], row-major. */
export interface ProjectorMatrix {
  readonly rows: number
  readonly columns: number
  readonly data: ArrayLike<number>
}

/** Weights as Z Wᵀ. */
export interface HeadFactors {
  readonly r: number
  /** [images, N, r] */
  readonly z: FloatVector
  /** W [N, r] */
  readonly w: ProjectorMatrix
}

/** Queries and keys of a block as the model has them, [B, N, H, D]. */
export interface QueriesAndKeys {
  readonly q: NumericArray
  readonly k: NumericArray
}

/** Compiled programs from images to queries and keys, and from these to matrices. */
export class AttentionReader {
  private readonly owned: Executable[] = []
  private readonly anatomy: AttentionAnatomy
  private readonly blocks: readonly number[]
  private readonly precision: 'f32' | 'f64'
  private readonly first: Executable
  private readonly tensors: ArrayLike<number>[]
  private readonly weighers = new Map<string, Executable>()

  /** @param set decides the size of a batch: every later one has as many images */
  constructor(
    device: Device,
    private readonly model: Model,
    params: ArrayLike<number>,
    private readonly set: DataSet,
    options: { readonly blocks: readonly number[]; readonly precision: 'f32' | 'f64' },
  ) {
    this.anatomy = attentionAnatomy(model)
    this.blocks = options.blocks
    this.precision = options.precision
    const { layout } = model
    layout.requireLength(params.length)
    const theta = Float64Array.from(params)
    this.tensors = layout.entries.map(({ offset, size }) => theta.subarray(offset, offset + size))
    this.device = device
    this.first = this.compiled(tappedProgram(model, set, this.blocks))
  }

  private readonly device: Device

  async queriesAndKeys(images: DataSet, signal?: AbortSignal): Promise<QueriesAndKeys[]> {
    const outputs = await this.first.run([...this.tensors, images.inputs], { signal })
    return this.blocks.map((_, i) => ({ q: outputs[2 * i], k: outputs[2 * i + 1] }))
  }

  /** Weights [B, H, N, N] of a block. */
  async weights(
    block: number,
    { q, k }: QueriesAndKeys,
    signal?: AbortSignal,
  ): Promise<FloatVector> {
    const [weights] = await this.run(block, 'weights', { q, k }, signal)
    return weights as FloatVector
  }

  async matrices(
    block: number,
    { q, k }: QueriesAndKeys,
    signal?: AbortSignal,
  ): Promise<Omit<BlockMatrices, 'block' | 'images'>> {
    const { heads, tokens } = this.anatomy
    const [scores, weights, ...latents] = await this.run(block, 'all', { q, k }, signal)
    const D = q.length / (this.set.size * tokens * heads)
    const factors: (HeadFactors | null)[] = new Array(heads).fill(null)
    for (const { head, r, w } of this.factored(block)) {
      factors[head] = { r, z: latents.shift() as FloatVector, w }
    }
    const scale = 1 / Math.sqrt(D)
    return {
      scores: scores as FloatVector,
      weights: weights as FloatVector,
      queries: (q as FloatVector).map((x) => scale * x) as FloatVector,
      keys: k as FloatVector,
      factors,
    }
  }

  dispose(): void {
    for (const executable of this.owned.splice(0)) executable.dispose()
  }

  private compiled(program: Program): Executable {
    const executable = compile(this.device, program, { precision: this.precision })
    this.owned.push(executable)
    return executable
  }

  private async run(
    block: number,
    what: 'weights' | 'all',
    { q, k }: QueriesAndKeys,
    signal?: AbortSignal,
  ): Promise<NumericArray[]> {
    const key = `${block} ${what}`
    const executable = this.weighers.get(key) ?? this.compiled(this.weigher(block, what, q.length))
    this.weighers.set(key, executable)
    return executable.run([...this.tensors, q, k], { signal })
  }

  /** From (θ.., q, k) to weights, or to scores, weights and the latents of factored heads. */
  private weigher(block: number, what: 'weights' | 'all', size: number): Program {
    const { layout } = this.model
    const { heads, tokens, attention, functions } = this.anatomy
    const B = this.set.size
    const shape = [B, tokens, heads, size / (B * tokens * heads)]
    const parameters: TensorType[] = layout.entries.map(({ shape }) => ({ dtype: 'f32', shape }))
    const operand: TensorType = { dtype: 'f32', shape }
    return simplify(
      trace(
        (...args) => {
          const [q, k] = args.slice(-2)
          const named = Object.fromEntries(layout.names.map((name, i) => [name, args[i]]))
          const layoutOfHeads = { layout: 'bnhd' } as const
          const prefix = functions(block)
          const weights = attendWeights({ q, k }, attention, named, prefix, layoutOfHeads)
          if (what === 'weights') return [weights]
          const latents = this.factored(block).map((head) => latentsOf(head, named, q, k))
          return [attentionScores(q, k, layoutOfHeads), weights, ...latents]
        },
        [...parameters, operand, operand],
      ),
    )
  }

  /** Heads whose weights are Z Wᵀ with r < N. */
  private factored(block: number): FactoredHead[] {
    const { attention, tokens, functions } = this.anatomy
    return attention.groups.flatMap(({ heads, setting, prefix }) => {
      if (!setting || setting.order !== 'w-phi' || setting.projection === 'output') return []
      if (setting.r >= tokens) return []
      const start = functions(block) + prefix
      const index = this.model.layout.names.indexOf(`${start}weight`)
      const { r } = setting
      return heads.map((head, place) => {
        const data = this.tensors[index] as Float64Array
        const own = data.subarray(place * tokens * r, (place + 1) * tokens * r)
        const w = { rows: tokens, columns: r, data: own }
        return { head, place, r, w, start, setting }
      })
    })
  }
}

interface FactoredHead {
  readonly head: number
  /** Among the heads of its group. */
  readonly place: number
  readonly r: number
  readonly w: ProjectorMatrix
  /** Prefix of its group's tensors. */
  readonly start: string
  readonly setting: NonNullable<BlockAttention['groups'][number]['setting']>
}

/** Z [B, 1, N, r] of one head: its weights with the first r rows of the identity in place of W. */
function latentsOf(
  { head, place, r, start, setting }: FactoredHead,
  named: TensorMap,
  q: Tensor,
  k: Tensor,
): Tensor {
  const [B, N, , D] = q.shape
  const pick = (x: Tensor): Tensor => ops.slice(x, [0, 0, head, 0], [B, N, 1, D])
  const tensors = Object.entries(named)
    .filter(([name]) => name.startsWith(start))
    .map(([name, x]) => {
      const own = name.slice(start.length)
      if (own === 'weight') return [own, ops.cast(unitColumns(N, r), q.dtype)] as const
      const from = x.shape.map((_, axis) => (axis === 0 ? place : 0))
      return [own, ops.slice(x, from, [1, ...x.shape.slice(1)])] as const
    })
  const options = { ...setting, layout: 'bnhd' } as const
  const weights = karatWeights(pick(q), pick(k), Object.fromEntries(tensors), options)
  return ops.slice(weights, [0, 0, 0, 0], [B, 1, N, r])
}

function unitColumns(N: number, r: number): Tensor {
  const shape = [1, N, r]
  return ops.eq(ops.iota(shape, 1), ops.iota(shape, 2))
}

/** From (θ.., raw images) to q and k of each block. */
function tappedProgram(model: Model, set: DataSet, blocks: readonly number[]): Program {
  const types: TensorType[] = model.layout.entries.map(({ shape }) => ({ dtype: 'f32', shape }))
  const whole = trace(
    (...args) => {
      const x = normalizeBatch(args[args.length - 1], set, model)
      return model.apply(args.slice(0, -1), x, { training: false, key: null })
    },
    [...types, batchTypes(set, set.size).x],
  )
  const names = blocks.flatMap((i) => [`blocks.${i}.attn.q`, `blocks.${i}.attn.k`])
  const known = new Set(tapNames(whole))
  const missing = names.find((name) => !known.has(name))
  if (missing) {
    throw new LosscapeError('ERR_ARGUMENT', `Model '${model.name}' has no tap '${missing}'.`)
  }
  const tapped = withTaps(whole, names)
  return simplify({ ...tapped, outputs: tapped.outputs.slice(1) })
}
