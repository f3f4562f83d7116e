import { describe, expect, it } from 'vitest'
import { describeFailure, Interrupted } from '../../lib/cli/exit.js'
import { shellWord } from '../../lib/cli/options.js'
import { openProgress } from '../../lib/cli/progress.js'
import {
  basisRows,
  computeSpectrum,
  probesKept,
  type SpectrumParts,
} from '../../lib/cli/spectrum-compute.js'
import { spectrumFile } from '../../lib/cli/spectrum-files.js'
import { progressOf } from '../../lib/cli/spectrum-run.js'
import { operatorFrom } from '../../lib/curvature/operators.js'
import { LosscapeError } from '../../lib/errors.js'

/** A stream that remembers, and a clock that is set by hand. */
function terminal(isTTY: boolean, columns = 80) {
  const written: string[] = []
  const clock = { time: 0 }
  const stream = { isTTY, columns, write: (text: string) => written.push(text) }
  return { written, clock, bar: openProgress('train', stream, () => clock.time) }
}

describe('the progress bar', () => {
  it('is redrawn in place on a terminal, at most every 80 ms, with the time left', () => {
    const { written, clock, bar } = terminal(true)
    bar.update(1, 4, 'loss 2')
    clock.time = 10
    bar.update(2, 4)
    expect(written).toHaveLength(1)
    clock.time = 1000
    bar.update(2, 4, 'loss 1')
    expect(written).toHaveLength(2)
    expect(written[1]).toBe(
      `\r\x1b[Ktrain ${'━'.repeat(12)}${'─'.repeat(12)}  50 %  1.0 s left  loss 1`,
    )
    bar.finish('done')
    expect(written.slice(2)).toEqual(['\r\x1b[K', 'train: done, 1.0 s\n'])
  })

  it('never wraps', () => {
    const { written, bar } = terminal(true, 30)
    bar.update(1, 2, 'a note that is far too long for thirty columns')
    expect([...written[0].replace('\r\x1b[K', '')].length).toBeLessThan(30)
  })

  it('elsewhere is a line every ten seconds', () => {
    const { written, clock, bar } = terminal(false)
    bar.update(1, 4)
    clock.time = 9999
    bar.update(2, 4)
    expect(written).toEqual([])
    clock.time = 10_000
    bar.update(2, 4, 'loss 1')
    expect(written).toEqual(['train: 50 %  10 s left  loss 1\n'])
    bar.clear()
    bar.finish()
    expect(written.at(-1)).toBe('train: 10 s\n')
  })
})

describe('a failure', () => {
  const style = { json: false, verbose: false }

  it('is one line with its code', () => {
    const error = new LosscapeError('ERR_SHAPE', 'Too wide.')
    expect(describeFailure(error, style)).toEqual({
      text: 'losscape: ERR_SHAPE: Too wide.',
      status: 1,
    })
    expect(describeFailure(new Error('odd'), style).text).toMatch(/ERR_UNEXPECTED: odd/)
    const memory = new RangeError('Array buffer allocation failed')
    expect(describeFailure(memory, style).text).toMatch(/^losscape: ERR_OUT_OF_MEMORY/)
  })

  it('of an interrupted command tells how to go on', () => {
    const { text, status } = describeFailure(new Interrupted('Stopped.', 'losscape x'), style)
    expect(text).toBe('losscape: Stopped. Resume with: losscape x')
    expect(status).toBe(130)
  })
})

it('words are quoted for a shell where they need it', () => {
  expect(['runs/a', 'a b', "it's", ''].map(shellWord)).toEqual([
    'runs/a',
    "'a b'",
    "'it'\\''s'",
    "''",
  ])
})

it('spectra of other kinds and blocks have other files', () => {
  const blocks = [undefined, '*', '!a', 'a', 'a,b', 'layers.0.*', '../x']
  const names = ['hessian', 'gauss-newton'].flatMap((kind) =>
    blocks.map((params) => spectrumFile(kind, params)),
  )
  expect(names[0]).toBe('spectrum.json')
  expect(new Set(names).size).toBe(names.length)
  expect(names.every((name) => /^[\w.+~=-]+\.json$/.test(name))).toBe(true)
})

describe('computeSpectrum', () => {
  const n = 40
  const operator = operatorFrom((v) => v.map((x, i) => (i - 10) * x), n)
  const settings = { top: 3, probes: 4, steps: 20, seed: 7 }

  it('finds the ends of a diagonal matrix, in the order of the contract', async () => {
    const { eigenvalues, trace, nodes } = await computeSpectrum(operator, settings)
    for (const [i, value] of [29, 28, 27].entries()) {
      expect(eigenvalues.top[i]).toBeCloseTo(value, 8)
    }
    for (const [i, value] of [-10, -9, -8].entries()) {
      expect(eigenvalues.bottom[i]).toBeCloseTo(value, 8)
    }
    expect(nodes).toHaveLength(4)
    // Rademacher probes see the trace of a diagonal matrix without error: 0 + .. + 29 - 55.
    expect(trace.value).toBeCloseTo(380, 6)
  })

  it('takes up saved parts and comes to the same numbers', async () => {
    const saved: SpectrumParts[] = []
    const whole = await computeSpectrum(operator, settings, {
      onParts: async (parts) => {
        saved.push(structuredClone(parts))
      },
    })
    // Before the ends are found, what is saved is Lanczos's.
    const finished = saved.filter(({ ends }) => ends !== null)
    expect(finished.map(({ nodes }) => nodes.length)).toEqual([0, 1, 2, 3, 4])
    const rest: number[] = []
    const resumed = await computeSpectrum(operator, settings, {
      parts: finished[2],
      onParts: async ({ nodes }) => {
        rest.push(nodes.length)
      },
    })
    expect(rest).toEqual([3, 4])
    expect({ ...resumed, time_ms: 0 }).toEqual({ ...whole, time_ms: 0 })
    expect(resumed.time_ms).toBeGreaterThan(finished[2].time_ms)
  })

  it.each(['full', 'partial', 'selective'] as const)('reorthogonalize: %s', async (how) => {
    const expected = await computeSpectrum(operator, settings)
    const { eigenvalues, trace } = await computeSpectrum(operator, {
      ...settings,
      reorthogonalize: how,
    })
    for (const [i, value] of expected.eigenvalues.top.entries()) {
      expect(eigenvalues.top[i]).toBeCloseTo(value, 7)
    }
    expect(trace.value).toBeCloseTo(expected.trace.value, 6)
  })

  it('restarts within a memory budget', async () => {
    const large = operatorFrom((v) => v.map((x, i) => (i < 990 ? x * Math.cos(i) : x * i)), 1000)
    const rows = 30
    // 1024 elements of 8 bytes each.
    const wanted = { top: 3, probes: 2, steps: 60, seed: 0, memory: rows * 8192 }
    expect(basisRows(large, wanted)).toBe(rows)
    expect(probesKept(large, wanted)).toBe('none')
    expect(probesKept(large, { ...wanted, memory: 61 * 8192 })).toBe('partial')
    expect(probesKept(large, { ...wanted, memory: undefined })).toBe('partial')
    const parts: SpectrumParts[] = []
    const { eigenvalues, residuals } = await computeSpectrum(large, wanted, {
      onParts: async (saved) => {
        parts.push(saved)
      },
    })
    const restarted = parts.some(({ lanczos }) => (lanczos?.state.restarts ?? 0) > 0)
    expect(restarted).toBe(true)
    expect(Math.max(...parts.map(({ lanczos }) => lanczos?.basis.length ?? 0))).toBeLessThan(rows)
    for (const [i, value] of [999, 998, 997].entries()) {
      expect(Math.abs(eigenvalues.top[i] - value)).toBeLessThan(1e-3)
    }
    expect(Math.max(...residuals.top)).toBeLessThan(1e-3)
    await expect(computeSpectrum(large, { ...wanted, memory: 8192 })).rejects.toThrow(
      /need a basis of at least \d+ rows/,
    )
    const partial = { ...wanted, reorthogonalize: 'partial' as const }
    await expect(computeSpectrum(large, partial)).rejects.toThrow(/does not allow/)
  })

  it('says what saved parts hold', () => {
    const parts = { ends: null, lanczos: null, nodes: [], weights: [], time_ms: 0 }
    const empty = { top: [], bottom: [] }
    const ends = { eigenvalues: empty, residuals: empty }
    expect(progressOf(parts)).toBeNull()
    expect(progressOf({ ...parts, ends })).toBe('the extreme eigenvalues')
    expect(progressOf({ ...parts, ends, nodes: [[1]] })).toMatch(/ and 1 probe$/)
    expect(progressOf({ ...parts, ends, nodes: [[1], [2]] })).toMatch(/ and 2 probes$/)
  })

  it('rejects an operator that is not symmetric before the long run', async () => {
    const shift = operatorFrom((v) => v.map((_, i) => v[i + 1] ?? 0), n)
    await expect(computeSpectrum(shift, settings)).rejects.toMatchObject({ code: 'ERR_OPERATOR' })
  })

  it('a failure to save is a failure', async () => {
    const full = new LosscapeError('ERR_IO', 'no space left')
    const onParts = () => Promise.reject(full)
    await expect(computeSpectrum(operator, settings, { onParts })).rejects.toBe(full)
  })

  it('the dense path has all eigenvalues and no error of the trace', async () => {
    const { eigenvalues, trace, nodes, weights } = await computeSpectrum(operator, {
      ...settings,
      exact: true,
    })
    expect(eigenvalues.top[0]).toBeCloseTo(29, 10)
    expect(eigenvalues.bottom[0]).toBeCloseTo(-10, 10)
    expect(trace.stderr).toBe(0)
    expect(trace.value).toBeCloseTo(380, 8)
    expect(nodes[0]).toHaveLength(n)
    expect(weights[0][0]).toBeCloseTo(1 / n, 12)
  })
})
