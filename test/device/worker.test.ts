import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { Worker } from 'node:worker_threads'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Device, open } from '../../lib/device/device.js'
import { addonCandidates } from '../../lib/device/loader.js'
import { chain, codeOf, encoded, task } from './support.js'

let device: Device
beforeAll(async () => {
  device = await open()
})
afterAll(() => device.dispose())

const addon = addonCandidates().find(existsSync) as string
const n = 256

/** Runs a chain of products in an environment of its own; `ending` is what it does meanwhile. */
const SCRIPT = `
  const native = require(addon)
  const make = (bytes) => bytes.map((b) => ({ buffer: native.createBuffer(b), offset: 0 }))
  const executable = native.compile(names, Float64Array.from(words))
  const inputs = make(executable.inputBytes)
  const outputs = make(executable.outputBytes)
  const token = native.createToken()
  const run = () => executable.run(inputs, outputs, { token })
`

const data = (steps: number) => {
  const { names, words } = encoded(chain(n, steps))
  return { addon, names, words: [...words] }
}

const worker = (ending: string, steps: number): Worker =>
  new Worker(
    `const { parentPort, workerData } = require('node:worker_threads')
     const { addon, names, words } = workerData
     ${SCRIPT}
     ${ending}`,
    { eval: true, workerData: data(steps) },
  )

const message = (from: Worker): Promise<unknown> =>
  new Promise((resolve, reject) => {
    from.once('message', resolve)
    from.once('error', reject)
  })

/** A process of its own; its exit status and what it printed. */
function child(ending: string, steps: number): { status: number | null; stdout: string } {
  const { names, words } = data(steps)
  const script = `const [addon, names, words] = ${JSON.stringify([addon, names, words])}
    ${SCRIPT}
    ${ending}`
  const { status, stdout } = spawnSync(process.execPath, ['-'], {
    input: script,
    encoding: 'utf8',
    timeout: 30_000,
  })
  return { status, stdout }
}

describe('workers', () => {
  it('share the executor with this thread', async () => {
    const others = [1, 2].map(() => worker(`run().then(() => parentPort.postMessage('ran'))`, 10))
    const mine = task(device, chain(n, 10))
    const results = await Promise.all([
      ...others.map(message),
      mine.executable.run(mine.inputs, mine.outputs),
    ])
    expect(results).toEqual(['ran', 'ran', undefined])
    await Promise.all(others.map((other) => other.terminate()))
    mine.dispose()
  })

  it('can be terminated in mid-run, which frees what they held', async () => {
    const before = device.memory().bytes
    for (let round = 0; round < 5; ++round) {
      const other = worker(
        `for (let i = 0; i < 4; ++i) run().catch(() => {})
         inputs[0].buffer.read(0, new Float32Array(${n * n}), { priority: 1 })
         setInterval(() => {}, 1000)
         parentPort.postMessage('started')`,
        4000,
      )
      expect(await message(other)).toBe('started')
      expect(device.memory().bytes).toBeGreaterThan(before)
      const from = performance.now()
      await other.terminate()
      // It waits for one operation, not for the 4000 of a run.
      expect(performance.now() - from).toBeLessThan(5000)
      expect(device.memory().bytes).toBe(before)
    }
    const mine = task(device, chain(n, 2))
    expect(await codeOf(mine.executable.run(mine.inputs, mine.outputs))).toBe('resolved')
    mine.dispose()
  })

  it('do not pass handles on', async () => {
    const other = worker(`parentPort.postMessage(Object.keys(inputs[0].buffer).length)`, 1)
    expect(await message(other)).toBe(0)
    await other.terminate()
  })
})

describe('a process', () => {
  it('ends by itself when nothing is in flight', () => {
    const ended = child(`run().then(() => console.log('ran'))`, 5)
    expect(ended).toEqual({ status: 0, stdout: 'ran\n' })
  })

  it('waits for what is in flight', () => {
    const ended = child(
      `inputs[0].buffer.write(0, new Float32Array(4)); run().then(() => console.log('ran'))`,
      50,
    )
    expect(ended).toEqual({ status: 0, stdout: 'ran\n' })
  })

  it('can exit in mid-run', () => {
    const ended = child(`run(); setTimeout(() => process.exit(3), 50)`, 4000)
    expect(ended).toEqual({ status: 3, stdout: '' })
  })

  it('sees an unhandled rejection as an error with a code', () => {
    const ended = child(
      `process.on('unhandledRejection', (e) => { console.log(e.code); process.exit(4) })
       run(); token.cancel()`,
      1000,
    )
    expect(ended).toEqual({ status: 4, stdout: 'ERR_ABORTED\n' })
  })
})
