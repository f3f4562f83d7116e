import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { losscape, temporaryFolder } from './support.js'

const folder = temporaryFolder()

describe('losscape reproduce', () => {
  it('names the papers it knows', async () => {
    const { status, stderr } = await losscape(['reproduce', 'nothing', '--json'])
    expect(status).toBe(2)
    const { error } = JSON.parse(stderr.trim().split('\n').at(-1) as string)
    expect(error).toMatchObject({ code: 'ERR_ARGUMENT' })
    expect(error.message).toContain('known are: hessian')
    const help = await losscape(['reproduce', '--help'])
    expect(help.stdout).toContain('--full')
  })

  it('stops at SIGINT with status 130 and tells how to go on', async () => {
    const out = join(folder, 'out')
    const kill = { signal: 'SIGINT', when: join(out, 'parts') } as const
    const args = ['reproduce', 'hessian', '--seeds', '1', '--threads', '1', '--out', out]
    const stopped = await losscape(args, { kill })
    expect(stopped.status).toBe(130)
    expect(stopped.stderr).toContain(`Resume with: losscape ${args.join(' ')}`)
    expect(existsSync(join(out, 'results.json'))).toBe(false)
  })
})
