import { describe, expect, it } from 'vitest'
import { describeMachine } from '../../bench/machine.js'
import { CASES } from '../../bench/suites/index.js'
import { formatTable, formatValue } from '../../bench/table.js'
import type { BenchResult } from '../../bench/types.js'

const result: BenchResult = {
  case: 'hvp/mlp784',
  what: 'a product',
  metric: 'time_ms',
  ours: 6.123,
  peer: 8.4,
  peerName: 'torch 2.13 double backward',
  peers: { 'double backward': 8.4 },
  ratio: 1.372,
  limit: 5.2,
  limitName: 'GEMM rate',
}

describe('cases', () => {
  it('have unique ids of the form suite/name', () => {
    const ids = CASES.map(({ id }) => id)
    expect(new Set(ids).size).toBe(ids.length)
    for (const id of ids) expect(id).toMatch(/^[a-z]+\/[a-z0-9-]+$/)
  })
})

describe('formatTable', () => {
  it('aligns columns and marks what is missing', () => {
    const alone = { ...result, case: 'a/b', peer: null, peerName: null, peers: null, ratio: null }
    const lines = formatTable([result, alone]).split('\n')
    expect(lines).toHaveLength(3)
    expect(lines[1]).toContain('6.12 ms')
    expect(lines[1]).toContain('1.37x')
    const column = lines[1].indexOf('torch 2.13')
    expect(lines[2][column]).toBe('-')
    expect(lines[2].trim().endsWith('GEMM rate')).toBe(true)
  })
})

describe('formatValue', () => {
  it('gives the unit of the metric', () => {
    expect(formatValue(1234.5, 'time_ms')).toBe('1235 ms')
    expect(formatValue(0.5, 'p99_ms')).toBe('0.500 ms')
    expect(formatValue(3 * 2 ** 20, 'peak_bytes')).toBe('3.00 MiB')
    expect(formatValue(0.876, 'bandwidth_share')).toBe('0.876')
    expect(formatValue(0.00543, 'relative_error')).toBe('5.43e-3')
  })
})

describe('describeMachine', () => {
  it('tells the hardware and versions, and no host name', async () => {
    const { hostname, userInfo } = await import('node:os')
    const machine = describeMachine({
      device: 'cpu',
      threads: 2,
      quick: false,
      versions: { losscape: '1.2.3' },
    })
    expect(machine.cores).toBeGreaterThanOrEqual(1)
    expect(machine.memoryBytes).toBeGreaterThan(2 ** 28)
    expect(machine).toMatchObject({ node: process.versions.node, versions: { losscape: '1.2.3' } })
    const values = Object.values(machine).map(String)
    expect(values).not.toContain(hostname())
    expect(values).not.toContain(userInfo().username)
  })
})
