import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { chromeTrace } from '../../lib/device/chrome-trace.js'
import { type Device, open } from '../../lib/device/device.js'
import { compile } from '../../lib/device/executable.js'
import * as ops from '../../lib/ops/index.js'
import { trace } from '../../lib/program/index.js'

let device: Device
beforeAll(async () => {
  device = await open({ device: 'cpu', threads: 1 })
})
afterAll(() => device.dispose())

const program = trace(
  (x, w) => ops.sum(ops.log(ops.matmul(x, w)), [1]),
  [
    [3, 4],
    [4, 5],
  ],
)
const ones = (n: number): number[] => new Array<number>(n).fill(1)

describe('debugging a program', () => {
  it('names the first operation that makes a NaN', async () => {
    using executable = compile(device, program)
    const bad = [ones(12).map((x) => -x), ones(20)]
    await expect(executable.run(bad)).resolves.toHaveLength(1)
    await expect(executable.run(bad, { anomaly: true })).rejects.toMatchObject({
      code: 'ERR_NOT_FINITE',
      message: expect.stringContaining('fused'),
    })
  })

  it('times operations and writes them as a Chrome trace', async () => {
    using executable = compile(device, program)
    const profile = await executable.profile([ones(12), ones(20)])
    expect(profile.map((op) => op.name)).toEqual(['matmul', 'fused', 'reduce'])
    expect(profile.every((op) => op.calls === 1 && op.milliseconds >= 0)).toBe(true)
    const { traceEvents } = chromeTrace(profile)
    expect(traceEvents[2].ts).toBeCloseTo(traceEvents[0].dur + traceEvents[1].dur, 9)
  })

  it('shows what was compiled', () => {
    using executable = compile(device, program)
    const report = executable.inspect()
    expect(report.program).toContain('matmul')
    expect(report.plan).toHaveLength(3)
    expect(report.arenaBytes).toBeLessThanOrEqual(report.unplannedBytes)
  })
})
