import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { QUICK, runCase } from '../../bench/harness.js'
import { Peer } from '../../bench/peer.js'
import type { BenchCase, BenchContext } from '../../bench/types.js'

const setting = { threads: 1, device: 'cpu' }

/** A stand-in for Python that speaks the protocol of peers/worker.py. */
const FAKE = `#!${process.execPath}
const { createInterface } = require('node:readline')
if (process.argv[3] === '--peak') {
  console.log(JSON.stringify({ bytes: process.argv[5] === 'lean' ? 1000 : 4000 }))
} else {
  const answers = {
    hello: { torch: '9.9' },
    setup: { variants: ['lean', 'fat'], unavailable: { absent: 'not in this version' } },
    run: (request) => ({ times_ms: [request.variant === 'lean' ? 6 : 8] }),
    close: {},
  }
  createInterface({ input: process.stdin }).on('line', (line) => {
    const request = JSON.parse(line)
    if (request.case === 'suite/failing') {
      console.log(JSON.stringify({ ok: false, error: 'no such luck' }))
      return
    }
    const answer = answers[request.action]
    console.log(
      JSON.stringify({ ok: true, ...(typeof answer === 'function' ? answer(request) : answer) }),
    )
  })
}
`

const context: BenchContext = {
  ...setting,
  quick: true,
  rates: { copyBandwidth: async () => null, gemmRate: async () => null },
  dataRoot: null,
}

describe('Peer', () => {
  let folder: string
  let python: string

  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'losscape-bench-'))
    python = join(folder, 'python')
    writeFileSync(python, FAKE)
    chmodSync(python, 0o755)
  })
  afterAll(() => rmSync(folder, { recursive: true, force: true }))

  it('is null when there is no such Python', async () => {
    expect(await Peer.start(join(folder, 'absent'), setting)).toBeNull()
  })

  it('is null when the process ends without an answer, as without torch', async () => {
    const silent = join(folder, 'silent')
    writeFileSync(silent, `#!${process.execPath}\n`)
    chmodSync(silent, 0o755)
    expect(await Peer.start(silent, setting)).toBeNull()
  })

  it('times every way, names the fastest, and warns of those that are unavailable', async () => {
    const peer = (await Peer.start(python, setting))!
    const warnings: string[] = []
    const bench: BenchCase = {
      id: 'suite/case',
      what: 'w',
      metric: 'time_ms',
      peer: 'worker',
      ours: async () => ({ measure: async () => 2 }),
    }
    const result = await runCase(bench, context, peer, QUICK, (line) => warnings.push(line))
    await peer.stop()
    expect(result).toMatchObject({
      ours: 2,
      peer: 6,
      peerName: 'torch 9.9 lean',
      peers: { lean: 6, fat: 8 },
      ratio: 3,
    })
    expect(warnings).toEqual([expect.stringContaining('absent')])
  })

  it('takes a fresh process per measurement of memory', async () => {
    const peer = (await Peer.start(python, setting))!
    const bench: BenchCase = {
      id: 'suite/memory',
      what: 'w',
      metric: 'peak_bytes',
      peer: 'peak',
      ours: async () => ({ measure: async () => 500 }),
    }
    const result = await runCase(bench, context, peer, QUICK)
    await peer.stop()
    expect(result).toMatchObject({ peers: { lean: 1000, fat: 4000 }, ratio: 2 })
  })

  it('passes on what the peer says of a failed request', async () => {
    const peer = (await Peer.start(python, setting))!
    await expect(peer.setup('suite/failing', {})).rejects.toThrow('no such luck')
    await peer.stop()
  })

  it('leaves a case without peer when the peer cannot set it up', async () => {
    const peer = (await Peer.start(python, setting))!
    const warnings: string[] = []
    const bench: BenchCase = {
      id: 'suite/failing',
      what: 'w',
      metric: 'time_ms',
      peer: 'worker',
      ours: async () => ({ measure: async () => 2 }),
    }
    const result = await runCase(bench, context, peer, QUICK, (line) => warnings.push(line))
    await peer.stop()
    expect(result).toMatchObject({ ours: 2, peer: null, peerName: null, peers: null, ratio: null })
    expect(warnings).toEqual([expect.stringContaining('no such luck')])
  })
})
