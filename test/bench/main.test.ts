import { execFile } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { BenchReport } from '../../bench/types.js'

const root = fileURLToPath(new URL('../../', import.meta.url))
const bench = (args: string[]) =>
  promisify(execFile)(
    process.execPath,
    ['--import', './bench/register.mjs', 'bench/main.ts', ...args],
    { cwd: root },
  )

// Each run starts a Node that transpiles the library.
describe('bench/main.ts', { timeout: 180_000 }, () => {
  let folder: string
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'losscape-bench-'))
  })
  afterAll(() => rmSync(folder, { recursive: true, force: true }))

  it('lists the cases of the suites that were asked for', async () => {
    const { stdout } = await bench(['hvp', 'service', '--list'])
    const ids = stdout.split('\n').map((line) => line.split(' ')[0])
    expect(ids).toContain('hvp/mlp784')
    expect(ids).toContain('service/event-loop')
    expect(ids).not.toContain('lanczos/memory')
  })

  it('exits with 2 and the usage when the command line is wrong', async () => {
    await expect(bench(['hpv'])).rejects.toMatchObject({
      code: 2,
      stderr: expect.stringContaining('usage:'),
    })
  })

  it('runs without torch: a table, and JSON with null for everything of the peer', async () => {
    const file = join(folder, 'results', 'small.json')
    const { stdout, stderr } = await bench([
      'hvp/mlp-small',
      '--quick',
      '--threads',
      '1',
      '--peer',
      join(folder, 'no-python'),
      '--json',
      file,
    ])
    expect(stderr).toContain('No peer')
    expect(stdout).toContain('hvp/mlp-small')
    const report = JSON.parse(readFileSync(file, 'utf8')) as BenchReport
    expect(report.machine).toMatchObject({ device: 'cpu', threads: 1, quick: true })
    expect(report.results).toHaveLength(1)
    const [result] = report.results
    expect(Object.keys(result)).toEqual([
      'case',
      'what',
      'metric',
      'ours',
      'peer',
      'peerName',
      'peers',
      'ratio',
      'limit',
      'limitName',
    ])
    expect(result).toMatchObject({
      case: 'hvp/mlp-small',
      metric: 'time_ms',
      peer: null,
      peerName: null,
      peers: null,
      ratio: null,
      limitName: 'GEMM rate',
    })
    expect(result.ours).toBeGreaterThan(0)
    expect(result.limit).toBeGreaterThan(0)
  })
})
