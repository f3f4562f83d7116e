import { describe, expect, it } from 'vitest'
import { cifarResnet, fold, lenet, mlp, resnet, vgg } from '../../../lib/nn/index.js'
import type { Model } from '../../../lib/nn/model.js'
import { gaussian, relative } from '../support.js'
import { pass } from './support.js'

const SMALL = { input: [3, 8, 8], classes: 3, depth: 8, width: 1 / 4 } as const

/** Parameters and statistics as training leaves them. */
function trained(model: Model): { params: Float64Array; state: Float64Array } {
  const params = model.init(1)
  const noise = gaussian(2, params.length)
  const state = model.initState()
  return {
    params: params.map((p, i) => p + 0.1 * noise[i]),
    state: state.map((s, i) => s + 0.3 * ((i * 5) % 4)),
  }
}

describe('fold', () => {
  it.each([
    ['the default', cifarResnet({ ...SMALL, ws: true })],
    ['bcn', cifarResnet({ ...SMALL, norm: { kind: 'bcn-micro', groups: 2 }, ws: 'official' })],
    ['gains', cifarResnet({ ...SMALL, norm: { kind: 'gn', groups: 2 }, ws: 'nfnet' })],
    ['pre-activation', cifarResnet({ ...SMALL, preactivation: true, ws: 'bit' })],
    ['convolutions with biases', lenet({ input: [1, 16, 16], norm: 'ln', ws: true })],
  ])('makes plain convolutions of standardised ones: %s', (_, model) => {
    const { params, state } = trained(model)
    const x = gaussian(3, 2 * model.input.reduce((n, d) => n * d, 1))
    const folded = fold(model, params, state)
    expect(folded.model.config.ws).toBe(false)
    expect(folded.model.layout.names.some((name) => name.endsWith('.gain'))).toBe(false)
    const [before, after] = [
      pass(model, params, state, x).outputs,
      pass(folded.model, folded.params, folded.state, x).outputs,
    ]
    expect(relative(after, before)).toBeLessThan(1e-6)
    expect([...folded.params]).not.toEqual([...params])
  })

  it.each([
    ['of standardised weights', cifarResnet({ ...SMALL, ws: true, shortcut: 'convolution' })],
    ['of plain weights', resnet({ ...SMALL, depth: 18, width: 1 / 16, stem: 'cifar' })],
    [
      'of convolutions with biases',
      vgg({
        ...SMALL,
        input: [3, 32, 32],
        depth: 11,
        width: 1 / 16,
        norm: 'bn',
        hidden: 0,
        pool: 1,
      }),
    ],
  ])('makes batch norms part of the convolutions, %s', (_, model) => {
    const { params, state } = trained(model)
    const x = gaussian(3, 2 * model.input.reduce((n, d) => n * d, 1))
    const folded = fold(model, params, state, { norms: true })
    expect(folded.model.stateLayout.size).toBe(0)
    expect(folded.model.couplesSamples).toBe(false)
    const [before, after] = [
      pass(model, params, state, x).outputs,
      pass(folded.model, folded.params, folded.state, x).outputs,
    ]
    expect(relative(after, before)).toBeLessThan(1e-6)
  })

  it('refuses what cannot be folded', () => {
    const none = new Float64Array()
    const refuse = (model: Model, message: RegExp, options = {}): void => {
      const { params, state } = trained(model)
      expect(() => fold(model, params, state, options)).toThrowError(message)
      expect(() => fold(model, params, state, options)).toThrowError(
        expect.objectContaining({ code: 'ERR_ARGUMENT' }),
      )
    }
    refuse(cifarResnet(SMALL), /no weight standardisation/)
    refuse(mlp({ input: 2, hidden: [], classes: 2 }), /knows resnet, resnext, vgg/)
    const gn = { kind: 'gn', groups: 2 } as const
    refuse(cifarResnet({ ...SMALL, norm: gn }), /only batch norm/, { norms: true })
    refuse(cifarResnet({ ...SMALL, preactivation: true }), /pre-activation/, { norms: true })
    refuse(cifarResnet({ ...SMALL, ws: true }), /no option 'norm'/, { norm: true })
    const model = cifarResnet({ ...SMALL, ws: true })
    expect(() => fold(model, none, model.initState())).toThrowError(
      expect.objectContaining({ code: 'ERR_SHAPE' }),
    )
    expect(() => fold(model, model.init(), none)).toThrowError(
      expect.objectContaining({ code: 'ERR_SHAPE' }),
    )
    const missing = undefined as unknown as Float64Array
    expect(() => fold(model, model.init(), missing)).toThrowError(/state to be a vector/)
    expect(() => fold(missing as never, model.init(), none)).toThrowError(/model to be a model/)
    expect(() => fold(model, model.init().fill(Number.NaN), model.initState())).toThrowError(
      expect.objectContaining({ code: 'ERR_NOT_FINITE' }),
    )
    const variances = model.initState().fill(-5)
    expect(() => fold(model, model.init(), variances, { norms: true })).toThrowError(
      expect.objectContaining({ code: 'ERR_RANGE' }),
    )
  })
})
