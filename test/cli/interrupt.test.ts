import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { losscape, losscapeJson, temporaryFolder } from './support.js'

const folder = temporaryFolder()
const data = 'blobs?n=400&test=50&classes=3&dim=4'
const reference = join(folder, 'reference')

function trainInto(out: string): string[] {
  return [
    ...['train', '--model', 'mlp:4-24-24-3', '--data', data, '--out', out, '--batch', '20'],
    // Dropout and momentum: the order, the masks and the moments all have to go on.
    ...['--epochs', '800', '--dropout', '0.1', '--lr', '0.01', '--seed', '5'],
  ]
}

beforeAll(async () => {
  await losscapeJson(trainInto(reference))
})

function expectSame(out: string): void {
  for (const file of ['model.safetensors', 'metrics.jsonl']) {
    const [mine, theirs] = [out, reference].map((run) => readFileSync(join(run, file)))
    expect(mine.equals(theirs), file).toBe(true)
  }
}

describe('an interrupted training', () => {
  it('stops at SIGINT with status 130, tells how to resume, and goes on bit for bit', async () => {
    const out = join(folder, 'interrupted run')
    const kill = { signal: 'SIGINT', when: join(out, 'checkpoint.safetensors') } as const
    const stopped = await losscape(trainInto(out), { kill })
    expect(stopped.status).toBe(130)
    expect(stopped.stderr).toContain(`Resume with: losscape train --resume --out '${out}'`)
    expect(existsSync(join(out, 'model.safetensors'))).toBe(false)

    const early = await losscape(['eval', out])
    expect(early.status).toBe(1)
    expect(early.stderr).toContain('was interrupted: finish it with')

    const resumed = await losscape(['train', '--resume', '--out', out])
    expect(resumed.status).toBe(0)
    expect(resumed.stderr).toMatch(/Resuming .* at step \d+/)
    expectSame(out)
  })

  it.each([
    ['SIGINT', 130],
    ['SIGKILL', null],
  ] as const)('begins again when %s came before its first step', async (signal, status) => {
    const out = join(folder, `early-${signal}`)
    const stopped = await losscape(trainInto(out), {
      kill: { signal, when: join(out, 'config.json') },
    })
    expect(stopped.status).toBe(status)
    const resumed = await losscape([...trainInto(out), '--resume'])
    expect(resumed.status).toBe(0)
    expectSame(out)
  })

  it('tells that a model is large, and stops at once while it is built', async () => {
    const out = join(folder, 'large')
    const large = ['train', '--model', 'mlp:4-5300-5300-3', '--data', data, '--dtype', 'f64']
    const kill = { signal: 'SIGTERM', when: join(out, 'config.json') } as const
    const stopped = await losscape([...large, '--optimizer', 'adamw', '--out', out], { kill })
    expect(stopped.status).toBe(130)
    expect(stopped.stderr).toMatch(/has 28,137,703 parameters: its vectors alone take 1\.0 GiB/)
    // No second is spent on writing a gigabyte that holds no step.
    const file = join(out, 'checkpoint.safetensors')
    const header = existsSync(file) ? readFileSync(file).toString('latin1', 0, 4096) : ''
    expect(header).not.toMatch(/"step\\":0,/)
    expect(existsSync(join(out, 'model.safetensors'))).toBe(false)
  })

  it('goes on from its last checkpoint after a crash, with the same command', async () => {
    const out = join(folder, 'crashed')
    const kill = { signal: 'SIGKILL', when: join(out, 'checkpoint.safetensors') } as const
    const crashed = await losscape(trainInto(out), { kill })
    expect(crashed.status).toBe(null)
    const resumed = await losscape([...trainInto(out), '--resume'])
    expect(resumed.status).toBe(0)
    expectSame(out)
  })

  it('--resume of a run that never began begins it', async () => {
    const out = join(folder, 'fresh')
    const short = ['train', '--model', 'mlp:4-3', '--data', data, '--out', out, '--resume']
    expect(await losscapeJson(short)).toMatchObject({ status: 'completed' })
    const { status, stderr } = await losscape(['train', '--resume', '--out', join(folder, 'no')])
    expect(status).toBe(1)
    expect(stderr).toContain('holds no run to resume')
  })
})

describe('an interrupted spectrum', () => {
  it('keeps what is finished and comes to the same numbers', async () => {
    const args = ['spectrum', reference, '--probes', '60', '--steps', '60', '--json']
    const partial = join(reference, 'spectrum.partial.json')
    const stopped = await losscape(args, { kill: { signal: 'SIGINT', when: partial } })
    expect(stopped.status).toBe(130)
    expect(stopped.stdout).toBe('')
    const { error } = JSON.parse(stopped.stderr.trim().split('\n').at(-1) as string)
    expect(error.code).toBe('ERR_ABORTED')
    expect(error.message).toContain('Resume with: losscape spectrum')
    const { ends, lanczos } = JSON.parse(readFileSync(partial, 'utf8'))
    expect(ends?.eigenvalues.top.length ?? lanczos.state.products).toBeGreaterThanOrEqual(10)

    const resumed = await losscape(args)
    expect(resumed.stderr).toMatch(
      /Going on after (\d+ products of Lanczos|the extreme eigenvalues)/,
    )
    expect(existsSync(partial)).toBe(false)
    expect(existsSync(join(reference, 'spectrum.partial.basis'))).toBe(false)
    const whole = await losscape(args)
    expect(whole.stderr).not.toContain('Going on')
    const [a, b] = [resumed, whole].map(({ stdout }) => ({ ...JSON.parse(stdout), time_ms: 0 }))
    expect(a).toEqual(b)
  })
})
