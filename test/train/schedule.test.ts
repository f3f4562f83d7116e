import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { resolveSchedule, type ScheduleSpec } from '../../lib/train/schedule.js'

function factors(spec: ScheduleSpec, steps: number, shown = steps, stepsPerEpoch = 1): number[] {
  const schedule = resolveSchedule(spec, steps, stepsPerEpoch)
  return Array.from({ length: shown }, (_, t) => schedule(t))
}

function expectClose(actual: number[], expected: number[]): void {
  expect(actual).toHaveLength(expected.length)
  for (const [i, value] of expected.entries()) expect(actual[i]).toBeCloseTo(value, 12)
}

// The numbers are learning rates that torch.optim.lr_scheduler 2.x gave for lr 1.
describe('schedules agree with torch', () => {
  it('cosine: CosineAnnealingLR(T_max=8, eta_min=0.1)', () => {
    expectClose(
      factors({ kind: 'cosine', min: 0.1 }, 8),
      [
        1, 0.9657457896300791, 0.8681980515339464, 0.7222075445642905, 0.55, 0.3777924554357097,
        0.2318019484660537, 0.134254210369921,
      ],
    )
  })

  it('one-cycle: OneCycleLR(total_steps=10)', () => {
    expectClose(
      factors('one-cycle', 10, 9),
      [
        0.04, 0.52, 1, 0.9504846320134737, 0.8117456539497631, 0.6112620219362893,
        0.38874197806371075, 0.18825834605023697, 0.049519367986526286,
      ],
    )
    expect(factors('one-cycle', 10)[9]).toBeCloseTo(0.04 / 1e4, 15)
  })

  it('one-cycle, linear: OneCycleLR(pct 0.5, div 10, final 100)', () => {
    const spec = { kind: 'one-cycle', pct: 0.5, div: 10, finalDiv: 100, anneal: 'linear' } as const
    expectClose(factors(spec, 10, 9), [0.1, 0.325, 0.55, 0.775, 1, 0.8002, 0.6004, 0.4006, 0.2008])
  })

  it('step: StepLR(3, gamma=0.5), by steps and by epochs', () => {
    const stairs = [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25]
    expect(factors({ kind: 'step', every: 3, unit: 'step', gamma: 0.5 }, 8)).toEqual(stairs)
    expect(factors({ kind: 'step', every: 1, gamma: 0.5 }, 8, 8, 3)).toEqual(stairs)
  })

  it('warm-up: LinearLR(0.25, 4), then constant', () => {
    const spec = { kind: 'constant', warmup: { steps: 4, start: 0.25 } } as const
    expectClose(factors(spec, 6), [0.25, 0.4375, 0.625, 0.8125, 1, 1])
  })

  it('warm-up and cosine: SequentialLR(LinearLR(1/3, 3), CosineAnnealingLR(5))', () => {
    expectClose(factors({ kind: 'cosine', warmup: { steps: 3 } }, 8), [
      1 / 3,
      5 / 9,
      7 / 9,
      1,
      0.9045084971874737,
      0.6545084971874737,
      0.3454915028125263,
      0.09549150281252632,
    ])
  })
})

describe('schedules', () => {
  it('stay within [0, 1] and are pure', () => {
    const kinds: ScheduleSpec[] = ['constant', 'cosine', 'one-cycle', { kind: 'step', every: 2 }]
    fc.assert(
      fc.property(
        fc.constantFrom(...kinds),
        fc.integer({ min: 1, max: 400 }),
        fc.integer({ min: 0, max: 50 }),
        (spec, steps, warm) => {
          const full = typeof spec === 'string' ? { kind: spec } : spec
          const schedule = resolveSchedule(
            { ...full, warmup: { steps: warm } } as ScheduleSpec,
            steps,
            7,
          )
          for (let t = 0; t < steps + 20; t++) {
            const factor = schedule(t)
            // One comparison: thousands of expect() calls take seconds.
            if (!(factor >= 0 && factor <= 1 && schedule(t) === factor)) {
              expect.fail(`factor ${factor} at step ${t} of ${steps}`)
            }
          }
        },
      ),
      { numRuns: 50 },
    )
  })

  it('holds the end of a cosine', () => {
    expect(resolveSchedule({ kind: 'cosine', steps: 4, min: 0.2 }, 10, 1)(9)).toBeCloseTo(0.2, 15)
  })

  it.each<[string, unknown]>([
    ['kind', { kind: 'zigzag' }],
    ['every', { kind: 'step', every: 0 }],
    ['unit', { kind: 'step', every: 1, unit: 'day' }],
    ['min', { kind: 'cosine', min: 2 }],
    ['pct', { kind: 'one-cycle', pct: -1 }],
    ['anneal', { kind: 'one-cycle', anneal: 'cubic' }],
    ['warmup.steps', { kind: 'constant', warmup: { steps: 1.5 } }],
    ['warmup.start', { kind: 'constant', warmup: { steps: 2, start: -1 } }],
  ])('refuses a bad %s', (what, spec) => {
    expect(() => resolveSchedule(spec as ScheduleSpec, 10, 1)).toThrowError(
      expect.objectContaining({ code: 'ERR_ARGUMENT', message: expect.stringContaining(what) }),
    )
  })
})
