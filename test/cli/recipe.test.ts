import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Command } from 'commander'
import { describe, expect, it } from 'vitest'
import { parseAugment } from '../../lib/cli/recipe-options.js'
import { recipe, type TrainFlags, withTrainOptions } from '../../lib/cli/train-options.js'
import { glyphs } from '../../lib/data/synthetic/glyphs.js'
import { losscape, losscapeJson, temporaryFolder } from './support.js'

const set = await glyphs({ n: 1280 })

function parsed(...words: string[]) {
  const command = withTrainOptions(new Command()).exitOverride()
  command.configureOutput({ writeErr: () => {} })
  command.parse(['--out', 'x', ...words], { from: 'user' })
  const flags = command.opts<TrainFlags>()
  const explicit = Object.keys(flags).filter((k) => command.getOptionValueSource(k) === 'cli')
  return recipe(flags, new Set(explicit), set)
}

describe('flags of the recipe', () => {
  it('become options of train()', () => {
    const words =
      '--augment crop=2,flip,rand=m5-n1,jitter --mixup 0.8 --cutmix 1 --label-smoothing 0.1 ' +
      '--ema 0.99 --freeze layers.0.* --freeze *.bias --lr-factor blocks.*.attn.*=0.1'
    expect(parsed(...words.split(' '))).toMatchObject({
      augment: { paddedCrop: 2, flip: 0.5, randAugment: 'm5-n1', colourJitter: 0.4 },
      mixup: 0.8,
      cutmix: 1,
      labelSmoothing: 0.1,
      ema: 0.99,
      optimizer: {
        kind: 'sgd',
        groups: [
          { params: 'blocks.*.attn.*', lrFactor: 0.1 },
          { params: 'layers.0.*', frozen: true },
          { params: '*.bias', frozen: true },
        ],
      },
    })
    expect(parsed()).not.toHaveProperty('augment')
    expect(parseAugment('resized-crop,flip=0.3')).toEqual({ resizedCrop: true, flip: 0.3 })
    expect(parseAugment('none')).toEqual({})
  })

  it('replace parts of --recipe deit', () => {
    const plain = parsed('--recipe', 'deit')
    expect(plain).toMatchObject({
      epochs: 100,
      batch: 128,
      clipNorm: 1,
      mixup: 0.8,
      optimizer: { kind: 'adamw', lr: 1.25e-4, weightDecay: 0.05 },
      schedule: { kind: 'cosine', warmup: { steps: 50 } },
    })
    const own =
      '--recipe deit --epochs 8 --lr 1e-3 --mixup 0 --clip 2 --weight-decay 0.1 --augment flip'
    expect(parsed(...own.split(' '))).toMatchObject({
      epochs: 8,
      clipNorm: 2,
      mixup: 0,
      augment: { flip: 0.5 },
      optimizer: { lr: 1e-3, weightDecay: 0.1 },
      schedule: { min: 1e-2, warmup: { steps: 20, start: 1e-3 } },
    })
    expect(() => parsed('--recipe', 'deit', '--optimizer', 'sgd')).toThrow('--optimizer')
  })

  it.each([
    ['--augment', 'blur'],
    ['--augment', 'flip=x'],
    ['--augment', 'rand=strong'],
    ['--lr-factor', 'head'],
    ['--lr-factor', 'head=x'],
    ['--mixup', '-1'],
    ['--label-smoothing', '1'],
    ['--ema', '1'],
    ['--recipe', 'resnet'],
  ])('refuse %s %s', (flag, value) => {
    expect(() => parsed(flag, value)).toThrow(expect.objectContaining({ exitCode: 1 }))
  })
})

describe('losscape train', () => {
  const out = temporaryFolder()

  it('trains by the recipe, evaluates the average, and fine-tunes what it made', async () => {
    const first = join(out, 'first')
    const outcome = await losscapeJson<{ ema: { loss: number } }>([
      ...['train', '--model', 'mlp:400-16-10', '--data', 'glyphs?n=256&test=64', '--size', '20'],
      ...['--recipe', 'deit', '--augment', 'crop=2,flip', '--epochs', '2', '--batch', '64'],
      ...['--out', first],
    ])
    expect(outcome).toMatchObject({
      status: 'completed',
      steps: 8,
      ema: { loss: expect.any(Number) },
    })
    const config = JSON.parse(readFileSync(join(first, 'config.json'), 'utf8'))
    expect(config.data).toMatchObject({ size: 20, cropRatio: 0.9, interpolation: 'bicubic' })
    expect(config.training).toMatchObject({ given: { recipe: 'deit' }, ema: 0.99992 })
    expect(existsSync(join(first, 'ema.safetensors'))).toBe(true)
    const averaged = await losscapeJson<{ loss: number }>(['eval', first, '--ema'])
    expect(averaged.loss).toBeCloseTo(outcome.ema.loss, 5)

    const second = join(out, 'second')
    const tuned = await losscapeJson([
      ...['train', '--model', 'mlp:400-16-12', '--data', 'glyphs?n=256&test=64', '--size', '20'],
      ...['--init-from', first, '--init-skip', 'layers.1.*', '--freeze', 'layers.0.*'],
      ...['--out', second],
    ])
    expect(tuned).toMatchObject({ status: 'completed' })
    const other = await losscape([
      ...['train', '--model', 'mlp:400-16-12', '--data', 'glyphs?n=256&test=64', '--size', '20'],
      ...['--init-from', first, '--out', join(out, 'third')],
    ])
    expect(other.status).not.toBe(0)
    expect(other.stderr).toContain('layers.1.weight')
    expect(existsSync(join(out, 'third', 'config.json'))).toBe(false)
  })
})
