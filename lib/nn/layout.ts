import { requireArguments } from '../arguments.js'
import { LosscapeError } from '../errors.js'
import type { SegmentTable } from '../native.js'
import { elements } from '../program/shape.js'
import type { Shape } from '../program/types.js'

/** Every tensor starts on a boundary of this many elements in device storage (256 bytes of f32). */
export const STORAGE_ALIGNMENT = 64

export type FloatVector = Float32Array | Float64Array

/** Where one parameter tensor lies, in elements. */
export interface LayoutEntry {
  readonly name: string
  readonly shape: Shape
  readonly size: number
  /** In the logical vector: definition order, no padding. */
  readonly offset: number
  /** In device storage. */
  readonly storageOffset: number
}

/**
 * The map between named parameter tensors, the logical vector θ ∈ R^n (definition order, row-major,
 * no padding: what n, files, probe indices and users refer to) and device storage (every tensor on
 * a 256-byte boundary, zeros between).
 */
export class ParameterLayout {
  readonly entries: readonly LayoutEntry[]
  /** n, the number of parameters. */
  readonly size: number
  /** Elements in device storage. */
  readonly storage: number
  private readonly byName = new Map<string, LayoutEntry>()

  /**
   * @param kind what the tensors are, for messages
   * @throws ERR_ARGUMENT for a repeated name
   */
  constructor(
    parameters: readonly { readonly name: string; readonly shape: Shape }[],
    readonly kind: 'parameter' | 'state' = 'parameter',
  ) {
    let offset = 0
    let storageOffset = 0
    this.entries = parameters.map(({ name, shape }) => {
      const size = elements(shape)
      const entry: LayoutEntry = { name, shape: [...shape], size, offset, storageOffset }
      if (this.byName.has(name)) {
        throw new LosscapeError(
          'ERR_ARGUMENT',
          `${this.kind === 'state' ? 'State' : 'Parameter'} '${name}' is declared twice.`,
        )
      }
      this.byName.set(name, entry)
      offset += size
      storageOffset += Math.ceil(size / STORAGE_ALIGNMENT) * STORAGE_ALIGNMENT
      return entry
    })
    this.size = offset
    this.storage = Math.max(storageOffset, STORAGE_ALIGNMENT)
  }

  get names(): string[] {
    return this.entries.map((entry) => entry.name)
  }

  /** @throws ERR_ARGUMENT for an unknown name, listing the known ones */
  entry(name: string): LayoutEntry {
    const entry = this.byName.get(name)
    if (!entry) {
      throw new LosscapeError(
        'ERR_ARGUMENT',
        this.kind === 'state'
          ? `There is no state '${String(name)}'; the state tensors are ${this.names.join(', ') || 'none'}.`
          : `There is no parameter '${String(name)}'; the parameters are ${this.names.join(', ')}.`,
      )
    }
    return entry
  }

  /** Ranges of storage that hold numbers. */
  segments(): SegmentTable {
    return {
      offsets: Float64Array.from(this.entries, (entry) => entry.storageOffset),
      lengths: Float64Array.from(this.entries, (entry) => entry.size),
    }
  }

  /** Logical vector to device storage. Throws ERR_SHAPE unless it has n elements. */
  toStorage<T extends FloatVector>(logical: ArrayLike<number>, out: T): T {
    this.requireLength(logical.length)
    const source = ArrayBuffer.isView(logical) ? (logical as unknown as FloatVector) : null
    for (const { offset, storageOffset, size } of this.entries) {
      if (source) out.set(source.subarray(offset, offset + size), storageOffset)
      else for (let i = 0; i < size; i++) out[storageOffset + i] = logical[offset + i]
    }
    return out
  }

  /** Device storage to the logical vector. */
  fromStorage<T extends FloatVector>(storage: FloatVector, out: T): T {
    for (const { offset, storageOffset, size } of this.entries) {
      out.set(storage.subarray(storageOffset, storageOffset + size), offset)
    }
    return out
  }

  /** One tensor of a logical vector, as a view on it. */
  view<T extends FloatVector>(logical: T, name: string): T {
    const { offset, size } = this.entry(name)
    return logical.subarray(offset, offset + size) as T
  }

  /** @throws ERR_SHAPE unless `length` is n */
  requireLength(length: number): void {
    if (length !== this.size) {
      const what = this.kind === 'state' ? 'state vector of' : 'vector of n ='
      throw new LosscapeError(
        'ERR_SHAPE',
        `Expected a ${what} ${this.size} elements, got ${length}.`,
      )
    }
  }

  /** Throws ERR_NOT_FINITE naming the tensor with a NaN or infinity, also where f32 would have one. */
  requireFinite(values: ArrayLike<number>, precision: 'f32' | 'f64'): void {
    for (const { name, offset, size } of this.entries) {
      for (let i = offset; i < offset + size; i++) {
        if (Number.isFinite(precision === 'f32' ? Math.fround(values[i]) : values[i])) continue
        throw new LosscapeError(
          'ERR_NOT_FINITE',
          `${this.kind === 'state' ? 'State' : 'Parameter'} '${name}' has ${values[i]} at element ${i - offset}.`,
        )
      }
    }
  }

  /**
   * Names that match a pattern: `*` stands for any run of characters, several patterns are
   * separated by commas, a leading `!` excludes. `layers.*.weight,!layers.0.*`
   *
   * @throws ERR_ARGUMENT when nothing matches
   */
  match(pattern: string): string[] {
    requireArguments('match()', { pattern })
    const tests = pattern.split(',').map((part) => part.trim())
    const include = tests.filter((t) => !t.startsWith('!')).map(globToRegExp)
    const exclude = tests.filter((t) => t.startsWith('!')).map((t) => globToRegExp(t.slice(1)))
    const names = this.names.filter(
      (name) =>
        (include.length === 0 || include.some((r) => r.test(name))) &&
        !exclude.some((r) => r.test(name)),
    )
    if (names.length === 0) {
      throw new LosscapeError(
        'ERR_ARGUMENT',
        `No parameter matches '${pattern}'; the parameters are ${this.names.join(', ')}.`,
      )
    }
    return names
  }
}

function globToRegExp(glob: string): RegExp {
  const escaped = glob.replace(/[.+^${}()|[\]\\]/g, '\\$&')
  return new RegExp(`^${escaped.replaceAll('*', '.*').replaceAll('?', '.')}$`)
}
