import { describe, expect, it } from 'vitest'
import { attentionScores, attentionWeights } from '../../lib/nn/attention/attend.js'
import { karatAttention } from '../../lib/nn/attention/karat.js'
import * as ops from '../../lib/ops/index.js'
import { type Tensor, trace } from '../../lib/program/index.js'

const SHAPE = [1, 2, 5, 4]
const EDGES = [2, 12, 5, 3]

/** The function on q and sound parameters, with arguments that no type would let through. */
function attempt(f: (q: Tensor, p: Record<string, Tensor>) => unknown): () => unknown {
  return () =>
    trace((q, a, b, weight) => f(q, { a, b, weight }) as Tensor, [SHAPE, EDGES, EDGES, [2, 5, 12]])
}

const no = (value: unknown) => value as never

describe('attention refuses with a code', () => {
  it.each<[string, () => unknown]>([
    ['options of null', attempt((q, p) => karatAttention(q, q, q, p, no(null)))],
    [
      'parameters of numbers',
      attempt((q) => karatAttention(q, q, q, no({ a: 1, b: 2, weight: 3 }))),
    ],
    ['a bias of 3', attempt((q, p) => karatAttention(q, q, q, p, { bias: no(3) }))],
    ['a mask that is a list', attempt((q, p) => karatAttention(q, q, q, p, { keyMask: no([1]) }))],
    ['an infinite scale', attempt((q, p) => karatAttention(q, q, q, p, { scale: Infinity }))],
    ['heads', attempt((q, p) => karatAttention(q, q, q, p, no({ heads: ['softmax', 'softmax'] })))],
    ['scores with options of null', attempt((q) => attentionScores(q, q, no(null)))],
    ['an unknown layout', attempt((q) => attentionWeights(q, q, { layout: no('x') }))],
    ['latents without options', attempt((q, p) => ops.karatLatent(q, q, p.a, no(undefined)))],
  ])('%s', (_, call) => {
    expect(call).toThrow(expect.objectContaining({ code: 'ERR_ARGUMENT' }))
  })
})
