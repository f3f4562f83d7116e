import { describe, expect, it } from 'vitest'
import { ParameterLayout } from '../../lib/nn/layout.js'
import {
  type OptimizerSpec,
  type ParameterGroup,
  resolveOptimizer,
} from '../../lib/train/optimizer.js'

const LAYOUT = new ParameterLayout([
  { name: 'layers.0.weight', shape: [3, 2] },
  { name: 'layers.0.bias', shape: [3] },
  { name: 'layers.1.weight', shape: [1, 3] },
])

describe('resolveOptimizer', () => {
  it("fills in torch's defaults", () => {
    const sgd = resolveOptimizer({ kind: 'sgd' }, LAYOUT)
    expect(sgd).toMatchObject({ lr: 1e-3, moments: 0, fullBatch: false })
    expect(sgd.native).toMatchObject({
      kind: 'sgd',
      momentum: 0,
      dampening: 0,
      nesterov: false,
      clipNorm: Number.POSITIVE_INFINITY,
    })
    expect([...sgd.segments.decay]).toEqual([0, 0, 0])
    const adamw = resolveOptimizer({ kind: 'adamw' }, LAYOUT)
    expect(adamw.native).toMatchObject({ beta1: 0.9, beta2: 0.999, epsilon: 1e-8 })
    expect([...adamw.segments.decay]).toEqual([0.01, 0.01, 0.01])
    expect(adamw.moments).toBe(2)
    expect([...resolveOptimizer({ kind: 'adam' }, LAYOUT).segments.decay]).toEqual([0, 0, 0])
    expect(resolveOptimizer({ kind: 'sgd', momentum: 0.9 }, LAYOUT).moments).toBe(1)
    expect(resolveOptimizer({ kind: 'gd', lr: 1 }, LAYOUT)).toMatchObject({
      fullBatch: true,
      native: { kind: 'sgd' },
    })
  })

  it('lays groups over the tensors; the later wins in what it says', () => {
    const groups = [
      { params: '*.weight', weightDecay: 0.5, lrFactor: 2 },
      { params: ['layers.0.weight'], frozen: true },
    ]
    const { segments, trained } = resolveOptimizer(
      { kind: 'sgd', weightDecay: 0.1, groups },
      LAYOUT,
    )
    expect([...segments.decay]).toEqual([0.5, 0.1, 0.5])
    expect([...segments.learningRateFactor]).toEqual([2, 1, 2])
    expect([...segments.frozen]).toEqual([1, 0, 0])
    expect(trained).toEqual([false, true, true])
    expect([...segments.offsets]).toEqual([0, 64, 128])
    expect([...segments.lengths]).toEqual([6, 3, 3])
  })

  it('leaves vectors, tokens and positions without decay when asked to', () => {
    const layout = new ParameterLayout([
      { name: 'cls_token', shape: [1, 1, 4] },
      { name: 'pos_embed', shape: [1, 3, 4] },
      { name: 'blocks.0.norm1.weight', shape: [4] },
      { name: 'blocks.0.mlp.fc1.weight', shape: [8, 4] },
      { name: 'blocks.0.mlp.fc1.bias', shape: [8] },
      { name: 'blocks.0.attn.a', shape: [2, 3, 5, 1] },
    ])
    const decay = (groups: ParameterGroup[]) => [
      ...resolveOptimizer(
        { kind: 'adamw', weightDecay: 0.05, exemptFromDecay: 'vectors', groups },
        layout,
      ).segments.decay,
    ]
    expect(decay([])).toEqual([0, 0, 0, 0.05, 0, 0.05])
    expect(decay([{ params: 'cls_token', weightDecay: 0.1 }])).toEqual([0.1, 0, 0, 0.05, 0, 0.05])
  })

  it.each<[string, object, number?]>([
    ['kind', { kind: 'lion' }],
    ['lr', { kind: 'sgd', lr: -1 }],
    ['lr', { kind: 'gd', lr: Number.NaN }],
    ['momentum', { kind: 'sgd', momentum: -0.1 }],
    ['dampening', { kind: 'sgd', momentum: 0.9, dampening: Number.NaN }],
    ['nesterov', { kind: 'sgd', nesterov: true }],
    ['nesterov', { kind: 'sgd', momentum: 0.9, dampening: 0.1, nesterov: true }],
    ['beta', { kind: 'adam', betas: [0.9, 1] }],
    ['epsilon', { kind: 'adamw', epsilon: -1 }],
    ['weightDecay', { kind: 'adam', weightDecay: -1 }],
    ['clipNorm', { kind: 'sgd' }, 0],
    ['lrFactor', { kind: 'sgd', groups: [{ params: '*', lrFactor: -1 }] }],
    ['exemptFromDecay', { kind: 'adamw', exemptFromDecay: 'bias' }],
    ['frozen', { kind: 'sgd', groups: [{ params: '*', frozen: true }] }],
    ['matches', { kind: 'sgd', groups: [{ params: 'conv.*' }] }],
    ['no parameter', { kind: 'sgd', groups: [{ params: ['conv'] }] }],
  ])('refuses a bad %s: %o', (what, spec, clipNorm) => {
    expect(() => resolveOptimizer(spec as OptimizerSpec, LAYOUT, clipNorm)).toThrowError(
      expect.objectContaining({ code: 'ERR_ARGUMENT', message: expect.stringContaining(what) }),
    )
  })
})
