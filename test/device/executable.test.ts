import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { compileProgram } from '../../lib/device/compile.js'
import { type Device, open } from '../../lib/device/device.js'
import { compile } from '../../lib/device/executable.js'
import { withSignal } from '../../lib/device/native-call.js'
import { LosscapeError } from '../../lib/errors.js'
import type { NativeExecutable, NativeView } from '../../lib/native.js'
import { add, div, log, matmul, mul, reshape, sum } from '../../lib/ops/index.js'
import { trace } from '../../lib/program/index.js'
import { chain, codeOf, encoded, read, task, view } from './support.js'

let device: Device
beforeAll(async () => {
  device = await open()
})
afterAll(() => device.dispose())

/** Takes seconds when it is not stopped. */
const LONG = chain(512, 400)

describe('compile', () => {
  it('runs a program of arrays', async () => {
    const program = trace((x, y) => [sum(mul(x, y)), add(x, y)], [[3], [3]])
    using executable = compile(device, program)
    const [dot, total] = await executable.run([
      [1, 2, 3],
      [4, 5, 6],
    ])
    expect([...dot]).toEqual([32])
    expect([...total]).toEqual([5, 7, 9])
  })

  it('keeps overlapping runs apart', async () => {
    const program = trace((x) => matmul(x, x), [[2, 2]])
    using executable = compile(device, program)
    const runs = [1, 2, 3, 4].map((s) => executable.run([[s, 0, 0, s]]))
    expect((await Promise.all(runs)).map(([y]) => y[0])).toEqual([1, 4, 9, 16])
  })

  it('finds compiled programs again', () => {
    const make = () =>
      compileProgram(
        device,
        trace((x) => mul(x, x), [[7]]),
      )
    expect(make()).toBe(make())
    expect(
      compileProgram(
        device,
        trace((x) => mul(x, x), [[8]]),
      ),
    ).not.toBe(make())
    expect(
      compileProgram(
        device,
        trace((x) => mul(x, x), [[7]]),
        'f64',
      ),
    ).not.toBe(make())
  })

  it('refuses words that are no program', () => {
    const { names, words } = encoded(trace((x) => mul(x, x), [[7]]))
    for (const wrong of [words.subarray(1), words.subarray(0, -1), words.map(() => Number.NaN)]) {
      expect(() => device.compileEncoded(names, wrong)).toThrow(LosscapeError)
    }
    expect(() => device.compileEncoded([], words)).toThrow(/\[0, 0\)/)
    expect(() => device.compileEncoded(names, words, { donate: [[0, 9]] })).toThrow(/Donation/)
  })
})

describe('run', () => {
  it('refuses views that do not fit', () => {
    const { executable, inputs, outputs, dispose } = task(device, chain(8, 1))
    const small = view(device.binding.createBuffer(8))
    const codes = (
      [
        [inputs.slice(1), outputs],
        [inputs, []],
        [inputs, [small]],
        [inputs, [inputs[0]]],
        [[view(inputs[0].buffer, 1), inputs[1]], outputs],
        [[view(inputs[0].buffer, 1e9), inputs[1]], outputs],
        [[{} as NativeView, inputs[1]], outputs],
        [inputs, undefined as unknown as NativeView[]],
      ] as [NativeView[], NativeView[]][]
    ).map(([a, b]) => {
      try {
        executable.run(a, b)
        return 'ran'
      } catch (error) {
        return (error as { code: string }).code
      }
    })
    expect(codes).toEqual([
      'ERR_ARGUMENT',
      'ERR_ARGUMENT',
      'ERR_SHAPE',
      'ERR_ARGUMENT',
      'ERR_SHAPE',
      'ERR_SHAPE',
      'ERR_ARGUMENT',
      'ERR_ARGUMENT',
    ])
    dispose()
    expect(() => executable.run(inputs, outputs)).toThrow(/disposed/)
  })

  it('updates in place where that was agreed on', async () => {
    const { names, words } = encoded(trace((x) => add(x, mul(x, x)), [[3]]))
    const executable = device.compileEncoded(names, words, { donate: [[0, 0]] })
    const buffer = device.binding.createBuffer(12)
    await buffer.write(0, Float32Array.of(1, 2, 3))
    await executable.run([view(buffer)], [view(buffer)])
    expect(await read(buffer, new Float32Array(3))).toEqual(Float32Array.of(2, 6, 12))
    buffer.dispose()
  })

  it('plans memory', () => {
    const { executable } = task(device, chain(64, 20))
    // Products alternate between two places; the last one is written to the output.
    expect(executable.arenaBytes).toBeLessThan(executable.unplannedBytes / 4)
    expect(executable.describe().length).toBeGreaterThanOrEqual(20)
    expect(executable.describe().at(-1)).toMatch(/f32\[64,64\] output 0 16384 bytes/)
  })

  it('returns an input that is an output', async () => {
    using executable = compile(
      device,
      trace((x) => [x, reshape(x, [4]), x], [[2, 2]]),
    )
    const outputs = await executable.run([[1, 2, 3, 4]])
    expect(outputs.map((y) => [...y])).toEqual([1, 2, 3].map(() => [1, 2, 3, 4]))
  })

  it('tells the time of each operation', async () => {
    const { executable, inputs, outputs, dispose } = task(device, chain(64, 3))
    const profile = await executable.run(inputs, outputs, { profile: true })
    expect(profile?.filter((entry) => entry.name === 'matmul')).toHaveLength(3)
    expect(profile?.every((entry) => entry.calls === 1 && entry.milliseconds > 0)).toBe(true)
    expect(await executable.run(inputs, outputs)).toBeUndefined()
    dispose()
  })

  it('names the first operation with a NaN', async () => {
    const program = trace((x) => sum(matmul(log(x), x)), [[2, 2]])
    const { executable, inputs, outputs, dispose } = task(device, program)
    await inputs[0].buffer.write(0, Float32Array.of(1, 2, -3, 4))
    const failure = executable.run(inputs, outputs, { anomaly: true })
    await expect(failure).rejects.toThrow(/fused.*first with a NaN/)
    expect(await codeOf(failure)).toBe('ERR_NOT_FINITE')
    await inputs[0].buffer.write(0, Float32Array.of(1, 2, 3, 4))
    await executable.run(inputs, outputs, { anomaly: true })
    dispose()
  })

  it('gives the same bits in every run', async () => {
    const { executable, inputs, outputs, dispose } = task(device, chain(96, 10))
    const noise = (seed: number) =>
      Float32Array.from({ length: 96 * 96 }, (_, i) => Math.sin(seed + i * 12.9898) / 8)
    await inputs[0].buffer.write(0, noise(1))
    await inputs[1].buffer.write(0, noise(2))
    const results: Float32Array[] = []
    for (let i = 0; i < 3; ++i) {
      await executable.run(inputs, outputs)
      results.push(await read(outputs[0].buffer, new Float32Array(96 * 96)))
    }
    expect(results[0].some((x) => x !== 0)).toBe(true)
    expect(results[1]).toEqual(results[0])
    expect(results[2]).toEqual(results[0])
    dispose()
  })
})

describe('a long run', () => {
  const started = (executable: NativeExecutable, inputs: NativeView[], outputs: NativeView[]) => {
    const token = device.binding.createToken()
    return { token, run: codeOf(executable.run(inputs, outputs, { token })) }
  }
  const settled = async (promise: Promise<unknown>): Promise<boolean> => {
    const pending = Symbol('pending')
    return (await Promise.race([promise, Promise.resolve(pending)])) !== pending
  }
  const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

  it('is aborted in the middle by its signal', async () => {
    const { executable, inputs, outputs, dispose } = task(device, LONG)
    const controller = new AbortController()
    const run = withSignal(device.binding, controller.signal, (token) =>
      executable.run(inputs, outputs, { token }),
    )
    await pause(20)
    const from = performance.now()
    controller.abort(new Error('enough'))
    await expect(run).rejects.toMatchObject({
      code: 'ERR_ABORTED',
      cause: { message: 'enough' },
    })
    // One product of 512 x 512 takes milliseconds; 400 of them take seconds.
    expect(performance.now() - from).toBeLessThan(1000)
    await expect(
      withSignal(device.binding, controller.signal, async () => 'never'),
    ).rejects.toMatchObject({ code: 'ERR_ABORTED' })
    dispose()
  })

  it('survives the disposal of all it uses', async () => {
    const before = device.memory().bytes
    const own = await open()
    const { executable, inputs, outputs, dispose } = task(own, chain(128, 40))
    const run = executable.run(inputs, outputs)
    dispose()
    own.dispose()
    expect(() => executable.run(inputs, outputs)).toThrow(/disposed/)
    await run
    // The job lets go before its promise settles or at the executor's next breath.
    for (let i = 0; i < 100 && device.memory().bytes > before; ++i) await pause(5)
    expect(device.memory().bytes).toBeLessThanOrEqual(before)
  })

  it('gives way to a job of priority 1, also of the same executable', async () => {
    const long = task(device, LONG)
    const { token, run } = started(long.executable, long.inputs, long.outputs)
    await pause(10)
    const short = task(
      device,
      trace((x) => mul(x, x), [[4]]),
    )
    const { buffer } = short.outputs[0]
    await short.inputs[0].buffer.write(0, Float32Array.of(1, 2, 3, 4), { priority: 1 })
    await short.executable.run(short.inputs, short.outputs, { priority: 1 })
    const result = new Float32Array(4)
    await buffer.read(0, result, { priority: 1 })
    expect([...result]).toEqual([1, 4, 9, 16])
    // The same program inside itself: a second arena.
    const again = device.binding.createBuffer(long.executable.outputBytes[0])
    const inner = device.binding.createToken()
    const nested = codeOf(
      long.executable.run(long.inputs, [view(again)], { priority: 1, token: inner }),
    )
    await pause(10)
    inner.cancel()
    expect(await nested).toBe('ERR_ABORTED')
    expect(await settled(run)).toBe(false)
    token.cancel()
    expect(await run).toBe('ERR_ABORTED')
    for (const { dispose } of [long, short]) dispose()
  })

  it('does not hold up the event loop', async () => {
    const { executable, inputs, outputs, dispose } = task(device, LONG)
    const { token, run } = started(executable, inputs, outputs)
    const from = performance.now()
    let turns = 0
    while (performance.now() - from < 100) {
      await new Promise((resolve) => setImmediate(resolve))
      turns++
    }
    expect(turns).toBeGreaterThan(10)
    expect(await settled(run)).toBe(false)
    token.cancel()
    expect(await run).toBe('ERR_ABORTED')
    dispose()
  })

  it('reports an error of a kernel by its code', async () => {
    using executable = compile(
      device,
      trace((x) => div(x, x), [[2]]),
    )
    expect(await codeOf(executable.run([[1]]))).toBe('ERR_SHAPE')
    executable.dispose()
    expect(await codeOf(executable.run([[1, 2]]))).toBe('ERR_DISPOSED')
  })
})
