import { cpSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { describe, expect, it } from 'vitest'
import { losscape, losscapeJson, node, root, temporaryFolder } from './support.js'

const folder = temporaryFolder()

describe('losscape', () => {
  it('lists its commands', async () => {
    const { status, stdout } = await losscape(['--help'])
    expect(status).toBe(0)
    for (const name of [
      'doctor',
      'train',
      'eval',
      'spectrum',
      'surface',
      'attention',
      'report',
      'bench',
      'demo',
      'reproduce',
    ]) {
      expect(stdout).toMatch(new RegExp(`^  ${name} `, 'm'))
    }
  })

  it.each([
    ...['doctor', 'train', 'eval', 'spectrum', 'surface', 'attention', 'report', 'demo'],
    'reproduce',
  ])('%s has a help with examples', async (name) => {
    const { status, stdout } = await losscape([name, '--help'])
    expect(status).toBe(0)
    expect(stdout).toContain('Examples:')
    expect(stdout).toContain('--json')
  })

  it('tells its version', async () => {
    const { status, stdout } = await losscape(['--version'])
    expect(status).toBe(0)
    expect(stdout).toMatch(/^\d+\.\d+\.\d+\n$/)
  })

  it.each([
    [['trian'], "unknown command 'trian'", 'Did you mean train?'],
    [['eval', 'runs/a', '--splitt', 'test'], "unknown option '--splitt'", 'losscape eval --help'],
    [['eval'], "missing required argument 'run'", 'losscape eval --help'],
    [['train', '--out', 'x', '--epochs', '0'], 'integer of at least 1', 'losscape train --help'],
    [['spectrum', 'x', '--kind', 'fisher'], 'hessian, gauss-newton', 'losscape spectrum --help'],
    [
      ['spectrum', 'x', '--reorthogonalize', 'cgs2'],
      'full, partial, selective',
      'losscape spectrum --help',
    ],
    [['spectrum', 'x', '--memory', '0'], 'number of at least', 'losscape spectrum --help'],
    [['spectrum', 'x', '--memory', '9', '--exact'], 'cannot be used with', 'spectrum --help'],
    [['eval', 'x', '--threads', 'two'], 'integer of at least 1', 'losscape eval --help'],
  ])('%j is a usage error with a hint', async (args, what, hint) => {
    const { status, stdout, stderr } = await losscape(args)
    expect(status).toBe(2)
    expect(stdout).toBe('')
    expect(stderr).toContain(what)
    expect(stderr).toContain(hint)
  })

  it('without a command shows the help as a usage error', async () => {
    const { status, stderr } = await losscape([])
    expect(status).toBe(2)
    expect(stderr).toContain('Usage: losscape')
  })

  it('with --json tells usage errors as one line of JSON', async () => {
    const { status, stdout, stderr } = await losscape(['eval', '--json'])
    expect(status).toBe(2)
    expect(stdout).toBe('')
    expect(JSON.parse(stderr)).toEqual({
      error: { code: 'ERR_ARGUMENT', message: "missing required argument 'run'" },
    })
  })
})

describe('losscape doctor', () => {
  it('describes the machine and passes its self-test', async () => {
    const result = await losscapeJson<{
      ok: boolean
      simd: { used: string; available: string[] }
      selfTest: { f32: number; f64: number }
      cuda: { available: boolean; reason: string }
    }>(['doctor'])
    expect(result.ok).toBe(true)
    expect(result.simd.available).toContain(result.simd.used)
    expect(result.selfTest.f32).toBeLessThan(1e-5)
    expect(result.selfTest.f64).toBeLessThan(1e-12)
    expect(result.cuda).toMatchObject({ available: false, reason: expect.stringMatching(/CUDA/) })
  })

  it('with an addon that cannot be loaded fails with the help of the loader', async () => {
    const bad = join(folder, 'bad.node')
    writeFileSync(bad, 'no library')
    const options = { env: { LOSSCAPE_ADDON: bad } }
    const { status, stderr } = await losscape(['doctor'], options)
    expect(status).toBe(1)
    expect(stderr).toContain('ERR_NATIVE')
    expect(stderr).toContain('LOSSCAPE_ADDON must name a losscape.node')
    const json = await losscape(['doctor', '--json'], options)
    expect(json).toMatchObject({ status: 1, stdout: '' })
  })

  it('prints stacks only when asked', async () => {
    const env = { LOSSCAPE_SIMD: 'mmx' }
    const plain = await losscape(['doctor'], { env })
    expect(plain.status).toBe(1)
    expect(plain.stderr).toContain('ERR_ARGUMENT')
    expect(plain.stderr).not.toMatch(/^ +at /m)
    const verbose = await losscape(['doctor', '--verbose'], { env })
    expect(verbose.stderr).toMatch(/^ +at /m)
    const debug = await losscape(['doctor'], { env: { ...env, LOSSCAPE_DEBUG: '1' } })
    expect(debug.stderr).toMatch(/^ +at /m)
  })
})

describe('losscape bench', () => {
  it('hands its arguments to the harness of the repository', async () => {
    const { status, stdout } = await losscape(['bench', '--help'])
    expect(status).toBe(0)
    expect(stdout).toContain('--peer PYTHON')
  })

  it('in the package says where the benchmarks are', async () => {
    const installed = join(folder, 'installed')
    cpSync(join(root, 'dist'), join(installed, 'dist'), { recursive: true })
    cpSync(join(root, 'package.json'), join(installed, 'package.json'))
    symlinkSync(join(root, 'node_modules'), join(installed, 'node_modules'))
    const main = join(installed, 'dist', 'cli', 'main.js')
    const { status, stderr } = await node([main, 'bench', 'hvp'])
    expect(status).toBe(1)
    expect(stderr).toContain('npm run bench -- hvp')
  })
})

/** URLs of the modules that a script loads, in its own words on stderr. */
async function loadedModules(script: string): Promise<string[]> {
  const hook = join(folder, 'hook.mjs')
  writeFileSync(
    hook,
    `import { register } from 'node:module'
     import { writeSync } from 'node:fs'
     if (import.meta.url.endsWith('?hook')) {} else register(import.meta.url + '?hook')
     export async function resolve(specifier, context, next) {
       const result = await next(specifier, context)
       writeSync(2, result.url + '\\n')
       return result
     }`,
  )
  const { status, stderr } = await node([
    '--import',
    pathToFileURL(hook).href,
    '--input-type=module',
    '--eval',
    script,
  ])
  expect(status).toBe(0)
  return stderr.split('\n').filter((line) => line !== '')
}

it("import 'losscape' loads no plots, no command line and no schemas", async () => {
  const modules = await loadedModules("import 'losscape'")
  expect(modules.some((url) => url.endsWith('/dist/index.js'))).toBe(true)
  expect(modules.filter((url) => url.includes('/node_modules/'))).toEqual([])
  expect(modules.filter((url) => url.includes('/dist/report/'))).toEqual([])
})
