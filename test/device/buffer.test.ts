import { setImmediate } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { denseOperator } from '../../lib/curvature/operators.js'
import { type Device, open } from '../../lib/device/device.js'
import { compile } from '../../lib/device/executable.js'
import type { NativeBinding, NativeBuffer, NativeToken } from '../../lib/native.js'
import { mul } from '../../lib/ops/index.js'
import { trace } from '../../lib/program/index.js'
import { codeOf, read } from './support.js'

let device: Device
let native: NativeBinding
beforeAll(async () => {
  device = await open()
  native = device.binding
})
afterAll(() => device.dispose())

const thrownCode = (body: () => unknown): string => {
  try {
    body()
  } catch (error) {
    return (error as { code: string }).code
  }
  return 'returned'
}

describe('buffer', () => {
  it('is zero-filled, and keeps what is written', async () => {
    const buffer = native.createBuffer(24)
    expect(buffer.bytes).toBe(24)
    expect(await read(buffer, new Float64Array(3))).toEqual(new Float64Array(3))
    await buffer.write(8, Float64Array.of(1.5, -2))
    expect(await read(buffer, new Float64Array(3))).toEqual(Float64Array.of(0, 1.5, -2))
    await buffer.clear()
    expect(await read(buffer, new Float64Array(3))).toEqual(new Float64Array(3))
    buffer.dispose()
  })

  it('copies the source at the call and serves its queue in order', async () => {
    const buffer = native.createBuffer(4)
    const source = Int32Array.of(1)
    const first = new Int32Array(1)
    const second = new Int32Array(1)
    const jobs = [buffer.write(0, source), buffer.read(0, first)]
    source[0] = 2
    jobs.push(buffer.write(0, source), buffer.read(0, second))
    source[0] = 3
    await Promise.all(jobs)
    expect([first[0], second[0]]).toEqual([1, 2])
    buffer.dispose()
  })

  it('takes parts of arrays and shared memory', async () => {
    const buffer = native.createBuffer(16)
    await buffer.write(0, Float32Array.of(9, 1, 2, 9).subarray(1, 3))
    const shared = new Float32Array(new SharedArrayBuffer(8))
    await buffer.read(0, shared)
    expect([...shared]).toEqual([1, 2])
    buffer.dispose()
  })

  it('rejects a read whose array was detached meanwhile', async () => {
    const buffer = native.createBuffer(1 << 20)
    const target = new Uint8Array(1 << 20)
    const done = buffer.read(0, target)
    structuredClone(target.buffer, { transfer: [target.buffer] })
    expect(await codeOf(done)).toBe('ERR_ARGUMENT')
    expect(target.byteLength).toBe(0)
    buffer.dispose()
  })

  it.each([
    ['behind the end', 8, 12],
    ['across the end', 4, 8],
    ['far outside', 2 ** 53 - 1, 4],
  ])('refuses ranges %s', (_, offset, bytes) => {
    const buffer = native.createBuffer(8)
    expect(thrownCode(() => buffer.read(offset, new Uint8Array(bytes)))).toBe('ERR_SHAPE')
    expect(thrownCode(() => buffer.write(offset, new Uint8Array(bytes)))).toBe('ERR_SHAPE')
    buffer.dispose()
  })

  it('refuses arguments of the wrong kind', () => {
    const buffer = native.createBuffer(8)
    const misuses: (() => unknown)[] = [
      () => native.createBuffer(-1),
      () => native.createBuffer(1.5),
      () => native.createBuffer(Number.NaN),
      () => native.createBuffer('8' as unknown as number),
      () => buffer.read(0.5, new Uint8Array(1)),
      () => buffer.read(0, [1] as unknown as Uint8Array),
      () => buffer.write(0, null as unknown as Uint8Array),
      () => buffer.write(0, new DataView(new ArrayBuffer(4)) as unknown as Uint8Array),
      () => buffer.write(0, new Uint8Array(1), { token: {} as NativeToken }),
      () => buffer.write(0, new Uint8Array(1), { token: buffer as unknown as NativeToken }),
      () => buffer.write(0, new Uint8Array(1), 7 as unknown as object),
    ]
    expect(misuses.map(thrownCode)).toEqual(misuses.map(() => 'ERR_ARGUMENT'))
    buffer.dispose()
  })

  it('knows its handles, whatever their prototype says', () => {
    const buffer = native.createBuffer(8)
    const token = native.createToken()
    const disguised = Object.setPrototypeOf(native.createBuffer(8), Object.getPrototypeOf(token))
    const hollow = Object.create(Object.getPrototypeOf(token))
    for (const wrong of [disguised, hollow]) {
      expect(thrownCode(() => buffer.clear({ token: wrong }))).toBe('ERR_ARGUMENT')
    }
    expect(() => buffer.clear.call(token as unknown as NativeBuffer)).toThrow(TypeError)
    const Constructor = buffer.constructor as new () => NativeBuffer
    expect(thrownCode(() => new Constructor().bytes)).toBe('ERR_DISPOSED')
    buffer.dispose()
  })

  it('can be disposed twice, and while jobs that use it are in flight', async () => {
    const buffer = native.createBuffer(4)
    const target = new Int32Array(1)
    const jobs = [buffer.write(0, Int32Array.of(5)), buffer.read(0, target)]
    buffer.dispose()
    buffer.dispose()
    await Promise.all(jobs)
    expect(target[0]).toBe(5)
    const uses = [() => buffer.bytes, () => buffer.clear(), () => buffer.read(0, target)]
    expect(uses.map(thrownCode)).toEqual(uses.map(() => 'ERR_DISPOSED'))
  })

  it('does not run what was cancelled', async () => {
    const buffer = native.createBuffer(4)
    const token = native.createToken()
    token.cancel()
    expect(await codeOf(buffer.write(0, Int32Array.of(5), { token }))).toBe('ERR_ABORTED')
    expect(await read(buffer, new Int32Array(1))).toEqual(Int32Array.of(0))
    buffer.dispose()
  })
})

describe('memory', () => {
  it('is counted while it lives', () => {
    const before = native.memory()
    const buffer = native.createBuffer(1000)
    const during = native.memory()
    expect(during.bytes - before.bytes).toBe(1000)
    expect(during.live.buffer.count - (before.live.buffer?.count ?? 0)).toBe(1)
    expect(during.peakBytes).toBeGreaterThanOrEqual(during.bytes)
    buffer.dispose()
    expect(native.memory().bytes).toBe(before.bytes)
  })

  it('is felt by the collector when nobody disposes it', async () => {
    const before = native.memory().live.buffer?.count ?? 0
    let most = 0
    for (let i = 0; i < 300; i++) {
      // Pages that nobody touches cost nothing.
      native.createBuffer(2 ** 24)
      await setImmediate()
      most = Math.max(most, (native.memory().live.buffer?.count ?? 0) - before)
    }
    expect(most).toBeLessThan(200)
  })

  it('stays within the limit', async () => {
    const { bytes } = native.memory()
    const limited = await open({ memoryLimit: bytes + 1000 })
    try {
      expect(() => native.createBuffer(1001)).toThrow(/1001 bytes.*limit is/)
      expect(thrownCode(() => native.createBuffer(1001))).toBe('ERR_OUT_OF_MEMORY')
      native.createBuffer(1000).dispose()
    } finally {
      native.setMemoryLimit(0)
      limited.dispose()
    }
  })

  it('says so when the system refuses', () => {
    expect(thrownCode(() => native.createBuffer(2 ** 50))).toBe('ERR_OUT_OF_MEMORY')
  })
})

describe('open', () => {
  it('refuses what it cannot open', async () => {
    expect(await codeOf(open({ device: 'cuda:0' }))).toBe('ERR_DEVICE')
    expect(await codeOf(open({ device: 'tpu' }))).toBe('ERR_DEVICE')
    expect(await codeOf(open({ threads: 0 }))).toBe('ERR_ARGUMENT')
    expect(await codeOf(open({ memoryLimit: -1 }))).toBe('ERR_ARGUMENT')
  })

  it('limits the process, and a disposed device says that it is disposed', async () => {
    const { bytes } = native.memory()
    const own = await open({ memoryLimit: bytes + 1000 })
    own.dispose()
    try {
      const traced = trace((x) => mul(x, x), [[4096]])
      expect(thrownCode(() => own.binding.createBuffer(2000))).toBe('ERR_DISPOSED')
      expect(thrownCode(() => compile(own, traced))).toBe('ERR_DISPOSED')
      expect(thrownCode(() => denseOperator(own, new Float64Array(10000)))).toBe('ERR_DISPOSED')
      expect(own.memory().bytes).toBe(bytes)
      // The limit is still there, for every device.
      expect(thrownCode(() => device.binding.createBuffer(2000))).toBe('ERR_OUT_OF_MEMORY')
    } finally {
      native.setMemoryLimit(0)
    }
  })

  it('is a resource', async () => {
    const own = await open({ device: 'auto' })
    expect(own.name).toBe('cpu')
    own[Symbol.dispose]()
    expect(thrownCode(() => own.compileEncoded([], new Float64Array()))).toBe('ERR_DISPOSED')
    await own[Symbol.asyncDispose]()
  })
})
