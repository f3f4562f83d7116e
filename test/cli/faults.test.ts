import { spawnSync } from 'node:child_process'
import { cpSync, existsSync, readFileSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, expect, it } from 'vitest'
import { losscape, losscapeJson, root, temporaryFolder } from './support.js'

const folder = temporaryFolder()
const good = join(folder, 'good')
const data = ['--data', 'blobs?n=60&test=20&classes=3&dim=4']

beforeAll(async () => {
  await losscapeJson(['train', '--model', 'mlp:4-3', ...data, '--out', good])
})

/** The one line of a failed command: `losscape: CODE: message`. */
async function failure(args: string[], expected = 1): Promise<string> {
  const { status, stdout, stderr } = await losscape([...args, '--quiet'])
  expect(status).toBe(expected)
  expect(stdout).toBe('')
  expect(stderr.trimEnd().split('\n')).toHaveLength(1)
  return stderr
}

/** A copy of the good run with one file changed. */
function damaged(name: string, change: (file: (name: string) => string) => void): string {
  const copy = join(folder, name)
  cpSync(good, copy, { recursive: true })
  change((file) => join(copy, file))
  return copy
}

const train = (...args: string[]): string[] => ['train', '--out', join(folder, 'new'), ...args]

it.each<[string, () => string[], RegExp]>([
  ['an unknown model', () => train('--model', 'cnn:3', ...data), /ERR_ARGUMENT.*'cnn:3'.*mlp/],
  ['no model', () => train(...data), /ERR_ARGUMENT.*--model/],
  [
    'an unknown data set',
    () => train('--model', 'mlp:4-3', '--data', 'bolbs'),
    /ERR_ARGUMENT.*Did you mean 'blobs'/,
  ],
  ['other unknown data', () => ['eval', good, '--data', 'bolbs'], /ERR_ARGUMENT.*'blobs'/],
  [
    'a batch larger than the set',
    () => train('--model', 'mlp:4-3', ...data, '--batch', '61'),
    /ERR_ARGUMENT.*batch of 61 .* 60/,
  ],
  ['an unknown loss', () => train('--model', 'mlp:4-3', ...data, '--loss', 'l7'), /ERR_ARG.*'l7'/],
  ['a run named twice', () => ['report', good, good], /ERR_ARGUMENT.*twice/],
  ['more eigenvalues than there are', () => ['spectrum', good, '--top', '99'], /--top 99/],
  ['a block that is none', () => ['spectrum', good, '--params', 'x.*'], /No parameter matches 'x/],
])('%s is wrong usage', async (_, args, message) => {
  expect(await failure(args(), 2)).toMatch(message)
})

it.each<[string, () => string[], RegExp]>([
  [
    'a model too wide for the data',
    () => train('--model', 'mlp:784-16-10', ...data),
    /ERR_SHAPE.*4 elements and 3 classes. Use --model mlp:4-16-3/,
  ],
  ['too few outputs', () => train('--model', 'mlp:4-2', ...data), /ERR_SHAPE.*mlp:4-3/],
  [
    'a data folder that is not there',
    () => train('--model', 'mlp:4-3', '--data', `mnist:${folder}/none`),
    /ERR_IO.*none/,
  ],
  [
    'an absent device',
    () => ['eval', good, '--device', 'cuda:0'],
    /ERR_DEVICE.*'cuda:0' is not available/,
  ],
  ['a run that is not there', () => ['eval', join(folder, 'none')], /ERR_IO.*none.*no such file/],
  [
    'data of another shape',
    () => ['eval', good, '--data', 'blobs?n=60&dim=5&classes=3'],
    /ERR_SHAPE/,
  ],
  [
    'an output folder that is a file',
    () => ['train', '--model', 'mlp:4-3', ...data, '--out', join(good, 'config.json', 'x')],
    /ERR_IO: Cannot write/,
  ],
  [
    'a report into a file',
    () => ['report', good, '--out', join(good, 'config.json')],
    /ERR_IO: Cannot write/,
  ],
  [
    'a configuration that is no JSON',
    () => ['eval', damaged('no-json', (file) => writeFileSync(file('config.json'), '{'))],
    /ERR_FORMAT.*config\.json/,
  ],
  [
    'a configuration without a model',
    () => ['eval', damaged('no-model', (file) => writeFileSync(file('config.json'), '{}'))],
    /ERR_FORMAT.*config\.json.*model/,
  ],
  [
    'weights that were cut off',
    () => ['eval', damaged('cut', (file) => truncateSync(file('model.safetensors'), 200))],
    /ERR_FORMAT.*model\.safetensors/,
  ],
  [
    'weights of another model',
    () => [
      'spectrum',
      damaged('other', (file) => {
        const text = readFileSync(file('config.json'), 'utf8')
        writeFileSync(file('config.json'), text.replace('mlp:4-3', 'mlp:4-6-3'))
      }),
    ],
    /ERR_FORMAT.*layers\.0\.weight/,
  ],
])('%s fails with one coded line', async (_, args, message) => {
  expect(await failure(args())).toMatch(message)
})

it('a training that fails before its first step leaves the folder free', async () => {
  const out = join(folder, 'too-large')
  const wide = await losscape([
    'train',
    '--model',
    'mlp:4-4000000-4000000-3',
    ...data,
    '--out',
    out,
  ])
  expect(wide).toMatchObject({ status: 1, stderr: expect.stringContaining('ERR_OUT_OF_MEMORY') })
  expect(existsSync(join(out, 'config.json'))).toBe(false)
  await losscapeJson(['train', '--model', 'mlp:4-3', ...data, '--out', out])
  const again = await losscape(['train', '--model', 'mlp:4-3', ...data, '--out', out])
  expect(again).toMatchObject({ status: 1, stderr: expect.stringContaining('holds a run already') })
})

it('a block that matches nothing is refused before data are read', async () => {
  const moved = damaged('no-data', (file) => {
    const text = readFileSync(file('config.json'), 'utf8')
    writeFileSync(file('config.json'), text.replace(/"blobs\?[^"]*"/, '"mnist:/nowhere"'))
  })
  const args = ['spectrum', moved, '--params', 'conv.*']
  expect(await failure(args, 2)).toMatch(/ERR_ARG.*'conv\.\*'/)
})

it('a long block gets a file name that fits', async () => {
  const block = Array.from({ length: 40 }, () => 'layers.0.weight').join(',')
  const wanted = ['spectrum', good, '--params', block, '--top', '1', '--probes', '1', '--json']
  expect(await losscape(wanted)).toMatchObject({ status: 0 })
})

/** Runs `losscape ARGS` in a shell that redirects its output. */
function redirected(args: string, shell: string): { status: number | null; stderr: string } {
  const command = `"${process.execPath}" "${join(root, 'dist', 'cli', 'main.js')}" ${args} ${shell}`
  const { status, stderr } = spawnSync('bash', ['-c', `set -o pipefail; ${command}`], {
    encoding: 'utf8',
  })
  return { status, stderr }
}

it.runIf(existsSync('/dev/full'))('a full disk behind stdout is an error', () => {
  const { status, stderr } = redirected(`eval "${good}" --json --quiet`, '> /dev/full')
  expect(status).toBe(1)
  expect(JSON.parse(stderr)).toEqual({
    error: { code: 'ERR_IO', message: expect.stringContaining('standard output') },
  })
})

it('closed pipes are none', () => {
  expect(redirected(`eval "${good}" --json --quiet`, '| true')).toEqual({ status: 0, stderr: '' })
  const out = join(folder, 'unheard')
  const command = `train --model mlp:4-3 ${data.join(' ').replaceAll('&', '\\&')} --out "${out}"`
  expect(redirected(command, '2>&1 | true').status).toBe(0)
  expect(existsSync(join(out, 'result.json'))).toBe(true)
})

it('options that do not fit leave no run folder behind', () => {
  expect(existsSync(join(folder, 'new'))).toBe(false)
})

it('fails with one line of JSON and nothing on stdout when asked for JSON', async () => {
  const { status, stdout, stderr } = await losscape(['eval', join(folder, 'none'), '--json'])
  expect(status).toBe(1)
  expect(stdout).toBe('')
  expect(JSON.parse(stderr)).toEqual({
    error: { code: 'ERR_IO', message: expect.stringContaining('no such file') },
  })
})

it('a damaged partial spectrum is computed again', async () => {
  const run = damaged('partial', (file) => writeFileSync(file('spectrum.partial.json'), '{"key":'))
  const { status } = await losscape(['spectrum', run, '--top', '2', '--probes', '2', '--json'])
  expect(status).toBe(0)
  expect(existsSync(join(run, 'spectrum.partial.json'))).toBe(false)
})
