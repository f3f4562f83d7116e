import { describe, expect, it } from 'vitest'
import { defineModel, type ModelDefinition } from '../../lib/nn/model.js'
import * as ops from '../../lib/ops/index.js'
import type { Tensor } from '../../lib/program/tensor.js'
import { trace } from '../../lib/program/trace.js'

const DEFINITION: ModelDefinition = {
  name: 'shifted',
  input: [2],
  output: [2],
  parameters: [{ name: 'scale', shape: [2], init: { kind: 'ones' } }],
  state: [
    { name: 'mean', shape: [2], init: { kind: 'zeros' } },
    { name: 'count', shape: [], init: { kind: 'values', values: [3] } },
  ],
  couplesSamples: true,
  apply: ({ scale }, x, { state, update }) => {
    update('count', ops.add(state.count, 1))
    return ops.mul(ops.sub(x, state.mean), scale)
  },
}

const TYPES = [[2], [2], [], [4, 2]]

/** Traces a call and tells what the model was given. */
function call(
  change: Partial<ModelDefinition>,
  options: Partial<Parameters<ReturnType<typeof defineModel>['apply']>[2]> = {},
  types = TYPES,
): void {
  const model = defineModel({ ...DEFINITION, ...change })
  trace(
    (...args) => model.apply(args.slice(0, -1), args.at(-1) as Tensor, { ...BARE, ...options }),
    types,
  )
}

const BARE = { training: true, key: null }

describe('state of a model', () => {
  it('has a layout and a start of its own', () => {
    const model = defineModel(DEFINITION)
    expect(model.size).toBe(2)
    expect(model.stateLayout.size).toBe(3)
    expect(model.stateLayout.names).toEqual(['mean', 'count'])
    expect([...model.initState()]).toEqual([0, 0, 3])
    expect(model.couplesSamples).toBe(true)
    expect(model.tensorTypes.map(({ shape }) => shape)).toEqual([[2], [2], []])
  })

  it('is empty unless declared', () => {
    const { state: _, couplesSamples: __, ...plain } = DEFINITION
    const model = defineModel({ ...plain, apply: ({ scale }, x) => ops.mul(x, scale) })
    expect(model.initState()).toHaveLength(0)
    expect(model.couplesSamples).toBe(false)
  })

  it('reaches apply() with the statistics that its caller chose', () => {
    const seen: string[] = []
    const apply: ModelDefinition['apply'] = (_, x, { statistics, lr, state }) => {
      seen.push(`${statistics} ${lr === null} ${Object.keys(state)}`)
      return x
    }
    call({ apply }, { training: true })
    call({ apply }, { training: false })
    call({ apply }, { training: false, statistics: 'batch' })
    expect(seen).toEqual([
      'batch true mean,count',
      'frozen true mean,count',
      'batch true mean,count',
    ])
  })

  it('hands updates to a caller that wants them', () => {
    const updated: string[] = []
    call({}, { update: (name, value) => updated.push(`${name} [${value.shape}]`) })
    expect(updated).toEqual(['count []'])
  })

  it('refuses wrong updates and tensors by name', () => {
    const updating =
      (...names: string[]): ModelDefinition['apply'] =>
      ({ scale }, x, { update }) => {
        for (const name of names) update(name, scale)
        return x
      }
    expect(() => call({ apply: updating('variance') })).toThrow(
      expect.objectContaining({
        code: 'ERR_ARGUMENT',
        message: expect.stringContaining("no state 'variance'; the state tensors are mean, count"),
      }),
    )
    expect(() => call({ apply: updating('mean', 'mean') })).toThrow(/'mean' twice/)
    expect(() => call({ apply: updating('count') })).toThrow(
      expect.objectContaining({
        code: 'ERR_SHAPE',
        message: expect.stringMatching(/'count' .* \[\], its update \[2\]/),
      }),
    )
    expect(() => call({}, {}, [[2], [4, 2]])).toThrow(
      expect.objectContaining({
        code: 'ERR_SHAPE',
        message: expect.stringContaining('1 parameter and 2 state tensors, got 1'),
      }),
    )
  })

  it('refuses declarations that do not hold', () => {
    const scale = DEFINITION.parameters[0]
    const refused = (change: object, message: RegExp): void =>
      expect(() => defineModel({ ...DEFINITION, ...change })).toThrow(
        expect.objectContaining({ code: 'ERR_ARGUMENT', message: expect.stringMatching(message) }),
      )
    refused({ state: [scale] }, /'scale' .* both a parameter and state/)
    refused({ state: [DEFINITION.state?.[0], DEFINITION.state?.[0]] }, /State 'mean' .* twice/)
    refused({ state: [{ ...scale, name: 'a', shape: [0] }] }, /'a' .* shape \[0\]/)
    refused({ state: 3 }, /state to be a list/)
    refused({ couplesSamples: 'yes' }, /couplesSamples to be true or false/)
  })
})
