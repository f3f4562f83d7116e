import { describe, expect, it } from 'vitest'
import {
  ConfusionMatrix,
  pixelClasses,
  segmentationScores,
} from '../../lib/train/segmentation-metrics.js'

describe('segmentation scores', () => {
  it('agree with a case by hand, and leave ignored pixels out', () => {
    // Class 0: 2 right, 1 missed, 1 wrongly claimed; class 1: 1, 1, 1; class 2 occurs nowhere.
    const labels = [0, 0, 0, 1, 1, 255, 255]
    const found = [0, 0, 1, 1, 0, 2, 7]
    const scores = segmentationScores(found, labels, { classes: 3, ignore: 255 })
    expect(scores.pixels).toBe(5)
    expect(scores.ignored).toBe(2)
    expect(scores.accuracy).toBeCloseTo(3 / 5, 14)
    expect(scores.meanAccuracy).toBeCloseTo((2 / 3 + 1 / 2) / 2, 14)
    expect(scores.iou[0]).toBeCloseTo(2 / 4, 14)
    expect(scores.iou[1]).toBeCloseTo(1 / 3, 14)
    expect(scores.iou[2]).toBeNaN()
    expect(scores.meanIou).toBeCloseTo((1 / 2 + 1 / 3) / 2, 14)
    expect([...scores.confusion]).toEqual([2, 1, 0, 1, 1, 0, 0, 0, 0])
  })

  it('count a class that is claimed but never there as 0, not as undefined', () => {
    const { iou, meanIou } = segmentationScores([1, 0], [0, 0], { classes: 2 })
    expect(iou).toEqual([0.5, 0])
    expect(meanIou).toBe(0.25)
  })

  it('add up over batches as over all pixels at once', () => {
    const labels = Array.from({ length: 300 }, (_, i) => (i * 7) % 4)
    const found = Array.from({ length: 300 }, (_, i) => (i * i) % 4)
    const parts = new ConfusionMatrix({ classes: 4 })
    for (let i = 0; i < 300; i += 60) parts.add(found.slice(i, i + 60), labels.slice(i, i + 60))
    expect(parts.scores()).toEqual(segmentationScores(found, labels, { classes: 4 }))
  })

  it('refuse classes that are none, and keep nothing of a refused batch', () => {
    const counts = new ConfusionMatrix({ classes: 2 })
    expect(() => counts.add([0, 0], [0, 2])).toThrow(/label of pixel 1 is 2.*0 to 1/)
    expect(() => counts.add([0, -1], [0, 1])).toThrow(/prediction of pixel 1/)
    expect(() => counts.add([0, 0.5], [0, 1])).toThrow(/prediction of pixel 1/)
    expect(() => counts.add([0], [0, 1])).toThrow(/each of 2 labels, got 1/)
    expect(() => counts.add(7 as never, [0])).toThrow(/predicted/)
    expect(counts.scores().pixels).toBe(0)
    expect(() => new ConfusionMatrix({ classes: 0 })).toThrow(/classes/)
    expect(() => new ConfusionMatrix({ classes: 2, ignore: 0.5 })).toThrow(/ignore/)
    expect(() => new ConfusionMatrix({ clases: 2 } as never)).toThrow(/no option 'clases'/)
  })
})

describe('pixelClasses()', () => {
  it('takes the largest score, the first of equals, in both layouts', () => {
    // Two pixels of one sample, three classes.
    const nchw = [1, 0, 3, 5, 3, 5]
    const nhwc = [1, 3, 3, 0, 5, 5]
    const size = { classes: 3, pixels: 2 }
    expect([...pixelClasses(nchw, size)]).toEqual([1, 1])
    expect([...pixelClasses(nhwc, { ...size, layout: 'nhwc' })]).toEqual([1, 1])
    const twice = pixelClasses([...nchw, 9, 9, 0, 0, 0, 0], size)
    expect([...twice]).toEqual([1, 1, 0, 0])
  })

  it('refuses what is no whole number of samples', () => {
    expect(() => pixelClasses([1, 2, 3], { classes: 2, pixels: 1 })).toThrow(/2 x 1 scores/)
    expect(() => pixelClasses([1], { classes: 0, pixels: 1 })).toThrow(/classes/)
    expect(() => pixelClasses([1], { classes: 1, pixels: 1, layout: 'chw' as never })).toThrow(
      /layout/,
    )
  })
})
