import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { addonCandidates, loadAddon, native } from '../../lib/device/loader.js'
import { LosscapeError } from '../../lib/errors.js'

const folder = mkdtempSync(join(tmpdir(), 'losscape-loader-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

function put(name: string, content: string): string {
  const file = join(folder, name)
  mkdirSync(dirname(file), { recursive: true })
  writeFileSync(file, content)
  return file
}

function failure(options: Parameters<typeof loadAddon>[0]): LosscapeError {
  try {
    loadAddon(options)
  } catch (error) {
    expect(error).toBeInstanceOf(LosscapeError)
    return error as LosscapeError
  }
  throw new Error('loadAddon did not throw')
}

test('the addon of this tree loads once and describes itself', () => {
  const info = native().info()
  expect(native()).toBe(native())
  expect(info.version).toMatch(/^\d+\.\d+\.\d+/)
  expect(info.simdTargets).toContain(info.simd)
  expect(info.threads).toBeGreaterThanOrEqual(1)
  expect(info.onednn).toMatch(/^\d+\.\d+/)
  expect(info.libc).toMatch(/glibc|musl/)
})

test('LOSSCAPE_ADDON replaces every other place', () => {
  const file = join(folder, 'mine.node')
  expect(addonCandidates({ root: folder, env: { LOSSCAPE_ADDON: file } })).toEqual([file])
})

test('a build in the tree comes before the prebuilt binary of the platform', () => {
  expect(addonCandidates({ root: '/r', env: {}, platform: 'darwin', arch: 'arm64' })).toEqual([
    join('/r', 'build', 'Release', 'losscape.node'),
    join('/r', 'prebuilds', 'darwin-arm64', 'losscape.glibc.node'),
  ])
})

test('a missing addon is ERR_NATIVE, naming every place and the command that builds it', () => {
  const error = failure({ root: join(folder, 'nowhere'), env: {}, platform: 'linux', arch: 'x64' })
  expect(error.code).toBe('ERR_NATIVE')
  expect(error.message).toContain('losscape.node: no such file')
  expect(error.message).toContain(join('prebuilds', 'linux-x64'))
  expect(error.message).toContain('npm run build')
})

test('a file that is no addon is ERR_NATIVE with the reason of the system as cause', () => {
  const file = put('broken.node', 'this is not a shared library')
  const error = failure({ env: { LOSSCAPE_ADDON: file } })
  expect(error.code).toBe('ERR_NATIVE')
  expect(error.message).toContain(file)
  expect(error.message).toContain('LOSSCAPE_ADDON')
  expect(error.cause).toBeInstanceOf(Error)
})

test('a broken build in the tree falls through to the prebuilt binary', () => {
  put('tree/build/Release/losscape.node', 'truncated')
  const error = failure({ root: join(folder, 'tree'), env: {} })
  expect(error.message.match(/^ {2}\//gm)).toHaveLength(2)
})

/** What a fresh process with this LOSSCAPE_SIMD prints: the target in use, or the error's code. */
function simdOfChild(level: string): string {
  const script = `
    try { console.log(require(process.argv[1]).info().simd) } catch (e) { console.log(e.code) }`
  const [addon] = addonCandidates({ env: {} })
  const run = spawnSync(process.execPath, ['-e', script, addon!], {
    env: { ...process.env, LOSSCAPE_SIMD: level },
    encoding: 'utf8',
  })
  return run.stdout.trim()
}

test('LOSSCAPE_SIMD lowers the instruction set, and an unknown level is ERR_ARGUMENT', () => {
  const { simdTargets } = native().info()
  expect(simdOfChild('scalar')).toBe(simdTargets.at(-1))
  expect(simdTargets).toContain(simdOfChild('avx2'))
  expect(simdOfChild('mmx')).toBe('ERR_ARGUMENT')
})

test('OpenBLAS is opened from the helper library and names its build', () => {
  const { version, core } = native().blasInfo()
  expect(version).toMatch(/OPENMP/)
  expect(core).toMatch(/\w/)
})

test('a missing BLAS helper is ERR_NATIVE with the command that builds it', () => {
  const script = `
    try { require(process.argv[1]).blasInfo() } catch (e) { console.log(e.code, e.message) }`
  const [addon] = addonCandidates({ env: {} })
  const run = spawnSync(process.execPath, ['-e', script, addon!], {
    env: { ...process.env, LOSSCAPE_BLAS: join(folder, 'none.so') },
    encoding: 'utf8',
  })
  expect(run.stdout).toMatch(/^ERR_NATIVE .*none\.so.*npm run build/)
})

test.each([
  ['a short wait of libgomp', {}, '3000'],
  ["the user's count", { GOMP_SPINCOUNT: '7' }, '7'],
  ["nothing beside the user's policy", { OMP_WAIT_POLICY: 'active' }, undefined],
])('what is loaded sees %s, and the environment stays as it was', (_, setting, seen) => {
  const addon = put('spin/losscape.node', '')
  const script = `
    process.dlopen = (module) => { module.exports = { seen: process.env.GOMP_SPINCOUNT } }
    const { loadAddon } = await import(${JSON.stringify(new URL('../../lib/device/loader.ts', import.meta.url).href)})
    const before = process.env.GOMP_SPINCOUNT
    const { seen } = loadAddon({ env: { LOSSCAPE_ADDON: ${JSON.stringify(addon)} } })
    console.log(JSON.stringify([seen ?? null, process.env.GOMP_SPINCOUNT === before]))`
  const register = new URL('../../bench/register.mjs', import.meta.url).href
  const { GOMP_SPINCOUNT: _count, OMP_WAIT_POLICY: _policy, ...env } = process.env
  const child = spawnSync(
    process.execPath,
    ['--import', register, '--input-type=module', '-e', script],
    { env: { ...env, ...setting }, encoding: 'utf8' },
  )
  expect(JSON.parse(child.stdout)).toEqual([seen ?? null, true])
})
