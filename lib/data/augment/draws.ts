import { inverseNormal } from '../../random/elementary.js'
import { multiplyHigh, philoxBlock, type Word64, wordPair } from '../../random/philox.js'

/** Words that belong to one index; what one sample may draw. */
const WORDS = 2 ** 16

/**
 * Random numbers of one sample (or one batch): a pure function of seed, stream and index, however
 * many workers there are and in whichever order they come to it. Words are those of
 * {@link words} from `index` 2^16 on, made as they are asked for.
 */
export class Draws {
  private readonly key: readonly [number, number]
  private readonly counter: Uint32Array
  private readonly block = new Uint32Array(4)
  private position: number

  constructor(seed: Word64, stream: Word64, index: number) {
    this.key = wordPair(seed)
    const [low, high] = wordPair(stream, 'stream')
    this.counter = new Uint32Array([0, 0, low, high])
    this.position = index * WORDS
  }

  word(): number {
    const within = this.position % 4
    if (within === 0) {
      const index = this.position / 4
      this.counter[0] = index >>> 0
      this.counter[1] = Math.floor(index / 2 ** 32)
      philoxBlock(this.key, this.counter, this.block)
    }
    this.position++
    return this.block[within]
  }

  /** In (0, 1). */
  uniform(): number {
    return (this.word() + 0.5) * 2 ** -32
  }

  between(low: number, high: number): number {
    return low + (high - low) * this.uniform()
  }

  /** In 0 ... bound - 1. */
  integer(bound: number): number {
    return multiplyHigh(this.word(), bound)
  }

  chance(probability: number): boolean {
    return this.uniform() < probability
  }

  /** A number or its negative, evenly. */
  sign(value: number): number {
    return this.chance(0.5) ? value : -value
  }

  normal(): number {
    return inverseNormal(this.uniform())
  }

  /** Beta(a, a), from two gamma variates. */
  symmetricBeta(a: number): number {
    const x = this.gamma(a)
    const y = this.gamma(a)
    return x + y > 0 ? x / (x + y) : 0.5
  }

  /** Gamma(shape, 1); Marsaglia & Tsang 2000, with their boost below 1. */
  private gamma(shape: number): number {
    if (shape < 1) return this.gamma(shape + 1) * this.uniform() ** (1 / shape)
    const d = shape - 1 / 3
    const c = 1 / Math.sqrt(9 * d)
    for (;;) {
      const x = this.normal()
      const v = (1 + c * x) ** 3
      if (v <= 0) continue
      const u = this.uniform()
      if (Math.log(u) < 0.5 * x * x + d - d * v + d * Math.log(v)) return d * v
    }
  }
}
