import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { losscape, losscapeJson, temporaryFolder } from './support.js'

const folder = temporaryFolder()
const small = ['--model', 'vit:patch8,width12,depth2,heads3', '--data', 'glyphs', '--limit', '64']

describe('train --model vit:..', () => {
  it('trains with learnable attention, and the run is built again from its folder', async () => {
    const out = join(folder, 'karat')
    const attention = 'karat:G2U,r4,heads=softmax/G1/G2'
    const flags = ['--attention', attention, '--drop-path', '0.1', '--epochs', '2', '--no-test']
    const trained = await losscapeJson<{ n: number }>(['train', ...small, ...flags, '--out', out])
    const config = JSON.parse(readFileSync(join(out, 'config.json'), 'utf8'))
    expect(config.model).toMatchObject({
      attention,
      dropPath: 0.1,
      classes: 10,
      input: [1, 16, 16],
    })
    const evaluated = await losscapeJson<{ loss: number }>(['eval', out, '--split', 'train'])
    expect(Number.isFinite(evaluated.loss) && trained.n > 0).toBe(true)
  })

  it('refuses flags of perceptrons, attention it does not know, and attention of perceptrons', async () => {
    const out = join(folder, 'refused')
    for (const [flags, message] of [
      [[...small, '--activation', 'tanh'], /vit\(\) has no option 'activation'/],
      [[...small, '--attention', 'karat:G0'], /G to be a positive integer/],
      [[...small, '--attention', 'karat:G3X'], /item 'G3X'/],
      [['--model', 'vit:foo3'], /item 'foo3'/],
      [[...small, '--freeze', 'nothing.*'], /No parameter matches 'nothing\.\*'/],
      [[...small, '--lr-factor', 'none=0.1'], /No parameter matches 'none'/],
      [['--model', 'mlp:256-10', '--attention', 'softmax'], /mlp\(\) has no option 'attention'/],
    ] as const) {
      const { status, stderr } = await losscape(['train', ...flags, '--out', out])
      expect(status).toBe(2)
      expect(stderr).toMatch(message)
      expect(existsSync(out)).toBe(false)
    }
  })
})
