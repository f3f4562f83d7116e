import { describe, expect, it } from 'vitest'
import { type CifarResnetOptions, cifarResnet } from '../../../lib/nn/index.js'
import type { Model } from '../../../lib/nn/model.js'
import { axpy, difference, dot, gaussian, largest, relative } from '../support.js'
import { Curvature, type Way } from './support.js'

const tiny = (options: CifarResnetOptions): Model =>
  cifarResnet({ input: [2, 4, 4], classes: 3, depth: 8, width: 1 / 8, zeroInit: false, ...options })

const x = gaussian(7, 2 * 32)

/** Estimates as training leaves them: away from 0 and 1. */
const moved = (model: Model): Float64Array =>
  model.initState().map((v, i) => v + 0.2 * ((i * 7) % 3))

const MICRO = { kind: 'bcn-micro', groups: 2 } as const

const NETS: readonly [string, Model, Way][] = [
  ['bcn-micro, estimates', tiny({ norm: MICRO, ws: true }), { statistics: 'frozen' }],
  [
    'bcn, batch statistics',
    tiny({ norm: { ...MICRO, kind: 'bcn' }, ws: true }),
    { statistics: 'batch' },
  ],
  ['gn', tiny({ norm: { kind: 'gn', groups: 2 }, ws: 'nfnet' }), {}],
]

describe.each(NETS)(
  'Hessian of a residual network with standardised weights, %s',
  (_, model, way) => {
    const theta = model.init(3)
    const curvature = new Curvature(model, moved(model), x, way)
    const [u, v] = [1, 2].map((seed) => gaussian(seed, model.size))
    const product = curvature.hvp(theta, v)

    it('is symmetric', () => {
      const [a, b] = [dot(u, product), dot(v, curvature.hvp(theta, u))]
      expect(Math.abs(a - b) / Math.abs(a)).toBeLessThan(1e-9)
    })

    it('is the derivative of the gradient', () => {
      // Steps that small flip no ReLU of this point; differences of fourth order leave 1e-9 or so.
      const numeric = difference((t) => curvature.grad(t), theta, v, 1e-5)
      expect(relative(product, numeric)).toBeLessThan(1e-6)
    })
  },
)

describe('flat directions of standardised weights', () => {
  /** Ones, or the weights themselves, on one filter; zeros elsewhere. */
  function onFilter(model: Model, name: string, o: number, values?: Float64Array): Float64Array {
    const v = new Float64Array(model.size)
    const view = model.layout.view(v, name)
    const size = view.length / model.layout.entry(name).shape[0]
    const own = values && model.layout.view(values, name)
    for (let j = o * size; j < (o + 1) * size; j++) view[j] = own ? own[j] : 1
    return v
  }

  const filters = [
    ['conv1.weight', 1],
    ['layer2.0.conv2.weight', 3],
  ] as const

  it('a constant added to a filter changes nothing: H 1 = 0, whatever epsilon', () => {
    const model = tiny({ norm: MICRO, ws: true })
    const theta = model.init(3)
    const curvature = new Curvature(model, moved(model), x)
    const scale = largest(curvature.hvp(theta, gaussian(1, model.size)))
    for (const [name, o] of filters) {
      const ones = onFilter(model, name, o)
      expect(largest(curvature.hvp(theta, ones))).toBeLessThan(1e-10 * scale)
      expect(Math.abs(dot(curvature.grad(theta), ones))).toBeLessThan(1e-12 * scale)
    }
  })

  it('without epsilon the gradient is homogeneous of degree -1: H w = -g on the filter', () => {
    const model = tiny({ norm: MICRO, ws: { epsilon: 0 } })
    const theta = model.init(3)
    const curvature = new Curvature(model, moved(model), x)
    const gradient = curvature.grad(theta)
    for (const [name, o] of filters) {
      const own = onFilter(model, name, o, theta)
      const product = curvature.hvp(theta, own)
      const expected = onFilter(model, name, o, gradient).map((g) => -g)
      const error = largest(axpy(product, -1, expected))
      expect(largest(expected)).toBeGreaterThan(0)
      expect(error / largest(gradient)).toBeLessThan(1e-9)
    }
  })
})
