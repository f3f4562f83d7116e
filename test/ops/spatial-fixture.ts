import { readFileSync } from 'node:fs'
import { expect } from 'vitest'
import * as ops from '../../lib/ops/index.js'
import { evaluate, trace } from '../../lib/program/index.js'
import type { Tensor } from '../../lib/program/tensor.js'
import { vjpProgram } from '../../lib/program/vjp.js'

/** What torch computes, by fixtures/spatial/make.py. */
export interface SpatialEntry {
  kind: 'maxPool' | 'averagePool' | 'adaptiveAveragePool' | 'adaptiveMaxPool' | 'resize'
  options: Record<string, unknown>
  shape: number[]
  x: number[]
  resultShape: number[]
  result: number[]
  cotangent: number[]
  gradient: number[]
}

const ENTRIES = readFileSync(new URL('../fixtures/spatial/torch.jsonl', import.meta.url), 'utf8')
  .trim()
  .split('\n')
  .map((line) => JSON.parse(line) as SpatialEntry)

const OPERATIONS = {
  maxPool: ops.maxPool,
  averagePool: ops.averagePool,
  adaptiveAveragePool: ops.adaptiveAveragePool,
  adaptiveMaxPool: ops.adaptiveMaxPool,
  resize: ops.resize,
}

export const entriesOf = (...kinds: SpatialEntry['kind'][]): SpatialEntry[] =>
  ENTRIES.filter(({ kind }) => kinds.includes(kind))

/** Compares values and gradient of an operation with torch's, in either layout. */
export function expectTorch(entry: SpatialEntry, layout: 'nchw' | 'nhwc'): void {
  const last = entry.shape.length - 1
  const toLast = [0, ...entry.shape.slice(2).map((_, i) => i + 2), 1]
  const toFirst = [0, last, ...entry.shape.slice(2).map((_, i) => i + 1)]
  const operation = OPERATIONS[entry.kind] as (x: Tensor, options: object) => Tensor
  const program = trace(
    (x) => {
      if (layout === 'nchw') return operation(x, { ...entry.options, layout })
      const y = operation(ops.transpose(x, toLast), { ...entry.options, layout })
      return ops.transpose(y, toFirst)
    },
    [{ dtype: 'f32', shape: entry.shape }],
  )
  expect(program.outputs[0].shape).toEqual(entry.resultShape)
  const [y, gradient] = evaluate(vjpProgram(program), [
    Float64Array.from(entry.x),
    Float64Array.from(entry.cotangent),
  ])
  for (const [ours, theirs] of [
    [y, entry.result],
    [gradient, entry.gradient],
  ]) {
    expect(ours.length).toBe(theirs.length)
    // torch's numbers have ten digits.
    for (const [i, v] of theirs.entries()) expect(Math.abs(ours[i] - v)).toBeLessThan(1e-8)
  }
}

/** `CODE: message` of the error that `body` throws, or 'accepted'. */
export function refusal(body: () => unknown): string {
  try {
    body()
  } catch (error) {
    const { code, message } = error as { code?: string; message: string }
    return `${code}: ${message}`
  }
  return 'accepted'
}

/** Traces `f` on an f32 input of this shape. */
export const onShape = (f: (x: Tensor) => Tensor, ...shape: number[]) =>
  trace(f, [{ dtype: 'f32', shape }])
