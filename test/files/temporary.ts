import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, expect } from 'vitest'
import { LosscapeError } from '../../lib/errors.js'

/** A folder that lives as long as the test file, with a way to put files into it. */
export function temporaryFolder(): {
  path: string
  put(name: string, bytes: Uint8Array | string): string
} {
  const path = mkdtempSync(join(tmpdir(), 'losscape-'))
  afterAll(() => rmSync(path, { recursive: true, force: true }))
  return {
    path,
    put(name, bytes) {
      const file = join(path, name)
      writeFileSync(file, bytes)
      return file
    },
  }
}

/** The LosscapeError that a promise rejects with. */
export async function rejection(promise: Promise<unknown>): Promise<LosscapeError> {
  const error = await promise.then(
    () => new Error('resolved'),
    (reason: unknown) => reason,
  )
  if (!(error instanceof LosscapeError)) throw error
  return error
}

/**
 * Damages `bytes` at random (bytes overwritten, inserted, cut) and reads the result: the reader may succeed or
 * reject with a LosscapeError of one of `codes`, and nothing else.
 */
export async function surviveCorruption(
  bytes: Uint8Array,
  read: (damaged: Uint8Array) => Promise<unknown>,
  options: { codes?: readonly string[]; numRuns?: number } = {},
): Promise<void> {
  const { codes = ['ERR_FORMAT'], numRuns = 150 } = options
  const edit = fc.oneof(
    // Heads and tails carry the structure, so they are hit more often than chance would.
    fc.record({ at: fc.nat(Math.min(80, bytes.length - 1)), value: fc.nat(255) }),
    fc.record({ at: fc.nat(bytes.length - 1), value: fc.nat(255) }),
    fc.record({
      at: fc.integer({ min: Math.max(0, bytes.length - 80), max: bytes.length - 1 }),
      value: fc.nat(255),
    }),
  )
  const damage = fc.record({
    edits: fc.array(edit, { maxLength: 4 }),
    cut: fc.option(fc.nat(bytes.length)),
    tail: fc.uint8Array({ maxLength: 5 }),
  })
  await fc.assert(
    fc.asyncProperty(damage, async ({ edits, cut, tail }) => {
      const damaged = Uint8Array.from(bytes)
      for (const { at, value } of edits) damaged[at] = value
      const kept = damaged.subarray(0, cut ?? bytes.length)
      const all = new Uint8Array(kept.length + tail.length)
      all.set(kept)
      all.set(tail, kept.length)
      const error = await read(all).then(
        () => null,
        (reason: unknown) => reason,
      )
      if (error === null) return
      expect(error).toBeInstanceOf(LosscapeError)
      expect(codes).toContain((error as LosscapeError).code)
    }),
    { numRuns },
  )
}
