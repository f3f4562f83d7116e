import { existsSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { peakDuring } from '../../bench/memory.js'

// The kernel's accounting exists on Linux only.
describe.runIf(existsSync('/proc/self/status'))('peakDuring', () => {
  it('sees memory that was touched and is gone afterwards', async () => {
    const bytes = 64 * 2 ** 20
    const touched = await peakDuring(async () => Buffer.alloc(bytes, 1)[bytes - 1])
    expect(touched).toBeGreaterThan(0.9 * bytes)
    expect(touched).toBeLessThan(2 * bytes)
  })
})
