import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { node, root } from './support.js'

/** What an example must print to have worked. */
const EXPECTED: Record<string, RegExp> = {
  'quickstart.js': /n = 8554, training accuracy 0\.\d+\n.*\ntrace \d+\.\d ± \d+\.\d/,
  'custom-model.js': /168 parameters, accuracy 0\.\d+/,
  'user-operator.js': /(error \de-1[3-9]\n?){4}|(error \d\.\de-1[3-9]\n?)/,
  'dense-check.js': /largest \|H v - \(G v \+ F v\)\| = \d\.\de-1[4-9]/,
  'transforms.js': /gradients -215\.6000 -88\.0000 -2\.0000 0\.0000 0\.0000/,
}

it('every example is known here', () => {
  const files = readdirSync(join(root, 'examples')).filter((name) => name.endsWith('.js'))
  expect(files.sort()).toEqual(Object.keys(EXPECTED).sort())
})

it.each(Object.keys(EXPECTED))('%s runs as plain JavaScript', async (name) => {
  const { status, stdout, stderr } = await node([join('examples', name)])
  expect(stderr).toBe('')
  expect(status).toBe(0)
  expect(stdout).toMatch(EXPECTED[name])
})
