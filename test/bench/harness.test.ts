import { describe, expect, it } from 'vitest'
import { interleave, QUICK, runCase, summarize, timeSlice } from '../../bench/harness.js'
import type { BenchCase, BenchContext } from '../../bench/types.js'

const context: BenchContext = {
  device: 'cpu',
  threads: 1,
  quick: true,
  rates: { copyBandwidth: async () => null, gemmRate: async () => null },
  dataRoot: null,
}

/** A clock that only moves while `run` runs, by `step` ms per call. */
function simulated(step: number | ((call: number) => number)) {
  let time = 0
  let calls = 0
  const run = async () => {
    time += typeof step === 'number' ? step : step(calls)
    calls += 1
  }
  return { run, now: () => time, calls: () => calls }
}

describe('timeSlice', () => {
  it('excludes the first call and averages as many as fit the slice', async () => {
    const clock = simulated((call) => (call === 0 ? 4 : 2))
    expect(await timeSlice(clock.run, 40, clock.now)).toBe(2)
    expect(clock.calls()).toBe(11)
  })

  it('times at least one call after the first', async () => {
    const clock = simulated((call) => (call === 0 ? 90 : 80))
    expect(await timeSlice(clock.run, 40, clock.now)).toBe(80)
  })

  it('takes a call of ten slices as it is', async () => {
    const clock = simulated(401)
    expect(await timeSlice(clock.run, 40, clock.now)).toBe(401)
    expect(clock.calls()).toBe(1)
  })
})

describe('interleave', () => {
  it('goes round the contenders and drops the warm-up round', async () => {
    const order: string[] = []
    const contender = (name: string) => ({
      name,
      measure: async () => {
        order.push(name)
        return order.length
      },
    })
    const samples = await interleave([contender('a'), contender('b')], {
      repetitions: 2,
      settleMs: 0,
    })
    expect(order.join('')).toBe('ababab')
    expect(samples.get('a')).toEqual([3, 5])
    expect(samples.get('b')).toEqual([4, 6])
  })
})

describe('summarize', () => {
  const bench = { id: 's/c', what: 'w', metric: 'time_ms' as const }

  it('holds ours against the fastest way and keeps every timing', () => {
    const peers = new Map([
      ['slow', 9],
      ['fast', 3],
    ])
    expect(summarize(bench, 2, peers, 'torch 2.13.0')).toMatchObject({
      peer: 3,
      peerName: 'torch 2.13.0 fast',
      peers: { slow: 9, fast: 3 },
      ratio: 1.5,
    })
  })

  it('prefers the larger value where more is better', () => {
    const peers = new Map([
      ['a', 0.5],
      ['b', 0.25],
    ])
    const result = summarize({ ...bench, metric: 'bandwidth_share' }, 1, peers, 'torch 2')
    expect(result).toMatchObject({ peer: 0.5, ratio: 2 })
  })
})

describe('runCase', () => {
  it('reports the median of the measurements, the limit, and null for a missing peer', async () => {
    const values = [100, 5, 1]
    let disposed = 0
    const bench: BenchCase = {
      id: 'suite/case',
      what: 'a case',
      metric: 'peak_bytes',
      peer: 'worker',
      ours: async () => ({
        measure: async () => values.shift()!,
        limit: { value: 2, name: 'floor' },
        dispose: () => {
          disposed += 1
        },
      }),
    }
    expect(await runCase(bench, context, null, { ...QUICK, repetitions: 2 })).toEqual({
      case: 'suite/case',
      what: 'a case',
      metric: 'peak_bytes',
      ours: 3,
      peer: null,
      peerName: null,
      peers: null,
      ratio: null,
      limit: 2,
      limitName: 'floor',
    })
    expect(disposed).toBe(1)
  })

  it('disposes when a measurement fails', async () => {
    let disposed = 0
    const bench: BenchCase = {
      id: 'suite/broken',
      what: 'fails',
      metric: 'time_ms',
      ours: async () => ({
        run: () => Promise.reject(new Error('broken')),
        dispose: () => {
          disposed += 1
        },
      }),
    }
    await expect(runCase(bench, context, null, QUICK)).rejects.toThrow('broken')
    expect(disposed).toBe(1)
  })
})
