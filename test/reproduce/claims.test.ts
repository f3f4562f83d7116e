import { describe, expect, it } from 'vitest'
import {
  type HessianResults,
  hessianClaims,
  QUESTIONS,
} from '../../lib/reproduce/hessian/claims.js'
import type { Results } from '../../lib/reproduce/paper.js'
import { batch, classCount, exemplary, sweep } from './results.js'

const verdicts = (results: Partial<Results<HessianResults>>) =>
  Object.fromEntries(hessianClaims(results).map(({ id, verdict }) => [id, verdict]))

const one = <R>(result: R) => [{ seed: 0, result }]

describe('claims about the Hessian', () => {
  it('are all seen in exemplary data', () => {
    const found = verdicts(exemplary())
    expect(Object.keys(found).sort()).toEqual(
      Object.values(QUESTIONS)
        .map(({ id }) => id)
        .sort(),
    )
    expect(new Set(Object.values(found))).toEqual(new Set(['seen']))
  })

  // Of each claim, data on which it must not be seen.
  const counterexamples: Record<string, Partial<Results<HessianResults>>> = {
    'init-energy': { classes: one([classCount({ first: { energy: 0.5 } })]) },
    'trained-energy': { classes: one([classCount({ last: { energy: 0.3 } })]) },
    'gap-index': {
      classes: one([
        classCount({ last: { outliers: { gap: 7, energy: 3, edge: 20, threshold: 3 } } }),
      ]),
    },
    'outlier-count': {
      classes: one([
        classCount({ last: { outliers: { gap: 3, energy: 3, edge: 20, threshold: 30 } } }),
      ]),
    },
    bulk: { classes: one([classCount({ last: { flatShare: 0.3 } })]) },
    'gauss-newton': { classes: one([classCount({ last: { gap: 0.6 } })]) },
    'gauss-newton-falls': { classes: one([classCount({ last: { gap: 0.97 } })]) },
    'small-negative': { classes: one([classCount({ last: { negativeRatio: 0.5 } })]) },
    'negative-source': { classes: one([classCount({ last: { gaussNewtonFloor: 1e6 } })]) },
    'structure-match': { classes: one([classCount({ structure: { matched: 1 } })]) },
    'structure-sum': { classes: one([classCount({ structure: { sum: [0.5, 0.1, 0] } })]) },
    clusters: { clusters: one(sweep({ large: 9 }, { large: 4 })) },
    width: { width: one(sweep({ nonNegligible: 80 }, { nonNegligible: 300 })) },
    'width-energy': { width: one(sweep({ energy: 0.9 }, { energy: 0.4 })) },
    separability: { separability: one(sweep({ largest: 1 }, { largest: 3 })) },
    'line-switch': { batch: one(batch({ line: 0.8 })) },
    'line-independent': { batch: one(batch({ line: 0.8, spike: 9 })) },
    'large-batch': { batch: one(batch({ large: 3, small: 9 })) },
    'small-batch-accuracy': { batch: one(batch({ testLarge: 0.95, testSmall: 0.94 })) },
    'data-width': { data: one(sweep({ nonNegligible: 80 }, { nonNegligible: 300 })) },
  }
  it('has a counterexample for each', () => {
    const ids = Object.values(QUESTIONS).map(({ id }) => id)
    expect(Object.keys(counterexamples).sort()).toEqual([...ids].sort())
  })
  it.each(Object.entries(counterexamples))('%s is not seen where it does not hold', (id, data) => {
    expect(verdicts(data)[id]).toBe('not seen')
  })

  it('are mixed when seeds disagree', () => {
    const classes = [
      { seed: 0, result: [classCount({})] },
      { seed: 1, result: [classCount({ last: { energy: 0.3 } })] },
    ]
    expect(verdicts({ classes })['trained-energy']).toBe('mixed')
  })

  it('say nothing of a barrier ratio where there is no barrier to compare with', () => {
    const found = verdicts({ batch: one(batch({ line: 0, independent: 0, spike: 0 })) })
    expect(found['line-independent']).toBe('not seen')
    expect(found['line-switch']).toBe('not seen')
  })

  it('are those for which there are results', () => {
    expect(hessianClaims({})).toEqual([])
    expect(Object.keys(verdicts({ clusters: exemplary().clusters }))).toEqual(['clusters'])
  })
})
