import { describe, expect, it } from 'vitest'
import { parseArguments, selectCases, UsageError } from '../../bench/args.js'

describe('parseArguments', () => {
  it('takes suites and options', () => {
    const args = parseArguments(['hvp', 'lanczos/reorth', '--json', 'a.json', '--quick'], {})
    expect(args).toMatchObject({
      filters: ['hvp', 'lanczos/reorth'],
      json: 'a.json',
      quick: true,
      device: 'cpu',
      threads: null,
      peer: 'python3',
    })
  })

  it('takes the peer from the option, else from the environment', () => {
    const environment = { LOSSCAPE_PEER_PYTHON: '/venv/bin/python' }
    expect(parseArguments([], environment).peer).toBe('/venv/bin/python')
    expect(parseArguments(['--peer', 'python3.11'], environment).peer).toBe('python3.11')
  })

  it('refuses unknown options and thread counts that are none', () => {
    expect(() => parseArguments(['--fast'])).toThrow(UsageError)
    expect(() => parseArguments(['--threads', '1.5'])).toThrow(/--threads/)
    expect(() => parseArguments(['--threads', '0'])).toThrow(/--threads/)
  })
})

describe('selectCases', () => {
  const cases = [{ id: 'hvp/mlp784' }, { id: 'hvp/mlp784-dataset' }, { id: 'lanczos/memory' }]

  it('selects whole suites and single cases, in their order', () => {
    expect(selectCases(cases, [])).toEqual(cases)
    expect(selectCases(cases, ['hvp'])).toEqual(cases.slice(0, 2))
    expect(selectCases(cases, ['lanczos', 'hvp/mlp784'])).toEqual([cases[0], cases[2]])
  })

  it('names the known cases when nothing is selected', () => {
    expect(() => selectCases(cases, ['hpv'])).toThrow(/hpv.*lanczos\/memory/)
  })
})
