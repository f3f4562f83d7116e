import { describe, expect, it } from 'vitest'
import { attentionScores, attentionWeights } from '../../lib/nn/attention/attend.js'
import { karatAttention } from '../../lib/nn/attention/karat.js'
import { karatParameters } from '../../lib/nn/attention/parameters.js'
import { parseAttention } from '../../lib/nn/attention/parse.js'
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
    ['a prefix of 3', () => karatParameters({}, { heads: 1, tokens: 5, prefix: no(3) })],
  ])('%s', (_, call) => {
    expect(call).toThrow(expect.objectContaining({ code: 'ERR_ARGUMENT' }))
  })

  const fourier = { basis: { kind: 'fourier', harmonics: 3 } } as const
  const dog = { basis: { kind: 'dog' } } as const
  it.each<[string, () => unknown, RegExp]>([
    ['attention, q', attempt((q) => ops.attention(no(undefined), q, q)), /attention.. .*q to be/],
    ['attention, v', attempt((q) => ops.attention(q, q, no(3))), /v to be a traced .*got 3/],
    [
      'karatLatent, q',
      attempt((_, p) => ops.karatLatent(no(undefined), p.a, p.a, fourier)),
      /karatLatent.. expected q to be a traced tensor, got undefined/,
    ],
    [
      'karatLatent, keyMask',
      attempt((q, p) => ops.karatLatent(q, q, p.a, { ...fourier, keyMask: no([1]) })),
      /keyMask to be a traced tensor, got \[1\]/,
    ],
    [
      'karatEdges, k',
      attempt((q, p) => ops.karatEdges(q, no(null), p.a, dog)),
      /karatEdges.. expected k to be a traced tensor, got null/,
    ],
  ])('what is no tensor: %s', (_, call, message) => {
    expect(call).toThrow(expect.objectContaining({ code: 'ERR_ARGUMENT' }))
    expect(call).toThrow(message)
  })

  const empty = [1, 2, 5, 0]
  it.each<[string, (q: Tensor, c: Tensor) => unknown]>([
    ['attention()', (q) => ops.attention(q, q, q)],
    ['karatLatent()', (q, c) => ops.karatLatent(q, q, c, fourier)],
    ['karatEdges()', (q, c) => ops.karatEdges(q, q, c, dog)],
    ['attentionScores()', (q) => attentionScores(q, q)],
  ])('heads without numbers: %s', (name, call) => {
    const run = () => trace((q, c) => call(q, c) as Tensor, [empty, [1, 2, 3, 5, 2]])
    expect(run).toThrow(expect.objectContaining({ code: 'ERR_SHAPE' }))
    expect(run).toThrow(`${name} expected heads of a width D of 1 or more, got q [1,2,5,0]`)
  })

  it.each<[object, RegExp]>([
    [{ kind: 'fourier', harmonics: 3, G: 4 }, /fourier basis has no 'G'; it has harmonics/],
    [{ kind: 'bspline', order: 3, intervals: 3, range: 4, grid: 1 }, /no 'grid'/],
    [{ kind: 'morlet', omega: 5, scale: 2 }, /morlet basis has no 'scale'; it has omega/],
    [{ kind: 'dog', omega: 5 }, /dog basis has no 'omega'; it has its kind only/],
  ])('fields that a basis does not have: %o', (basis, message) => {
    expect(() => karatParameters({ basis: no(basis) }, { heads: 1, tokens: 5 })).toThrow(message)
  })
})

describe('the text of attention', () => {
  it.each<[string | object, RegExp]>([
    ['karat:G3,G4', /'karat:G3,G4' says G twice, by 'G3' and 'G4'/],
    ['karat:G3B,U', /share twice, by 'G3B' and 'U'/],
    ['karat:phi-w,phi-phi', /order twice, by 'phi-w' and 'phi-phi'/],
    ['karat:full,r4', /order 'full' has no latent dimension .*got r = 4/],
    ['karat:full,heads=softmax/G1r2', /got r = 2/],
    [{ order: 'full', r: 4 }, /got r = 4/],
    [[], /got \[\]/],
    ['karat:', /item ''/],
  ])('refuses %o', (choice, message) => {
    expect(() => parseAttention(no(choice))).toThrow(message)
    expect(() => parseAttention(no(choice))).toThrow(
      expect.objectContaining({ code: 'ERR_ARGUMENT' }),
    )
  })

  it('takes karat alone as karat:G3B', () => {
    expect(parseAttention('karat')).toEqual(parseAttention('karat:G3B'))
    expect(parseAttention('karat:full')).toEqual({ order: 'full' })
  })
})
