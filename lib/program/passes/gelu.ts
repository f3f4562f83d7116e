/** Where instructions of a fused formula are written; registers are numbers. */
export interface FormulaWriter {
  constant(number: number): number
  instruction(name: string, a: number, b?: number): number
  once(key: string, write: () => number): number
}

const NAMES = ['gelu', 'gelu_slope', 'gelu_curvature']

export const isGelu = (name: string): boolean => NAMES.includes(name)

/**
 * xΦ(x), Φ(x) + xφ(x) or (2 - x²)φ(x) in instructions of the fused machine, which has none of its
 * own for them. Formulas that read one x share its erf and its exponential.
 */
export function writeGelu(formula: FormulaWriter, name: string, x: number): number {
  const scaled = (a: number, factor: number): number =>
    formula.instruction('mul', a, formula.constant(factor))
  const square = (): number => formula.once(`square ${x}`, () => formula.instruction('mul', x, x))
  /** 2 Φ(x) */
  const twiceCumulative = (): number =>
    formula.once(`cumulative ${x}`, () => {
      const erf = formula.instruction('erf', scaled(x, Math.SQRT1_2))
      return formula.instruction('add', erf, formula.constant(1))
    })
  const density = (): number =>
    formula.once(`density ${x}`, () =>
      scaled(formula.instruction('exp', scaled(square(), -0.5)), 1 / Math.sqrt(2 * Math.PI)),
    )
  if (name === 'gelu') return formula.instruction('mul', scaled(x, 0.5), twiceCumulative())
  if (name === 'gelu_slope') {
    const tail = formula.instruction('mul', x, density())
    return formula.instruction('add', scaled(twiceCumulative(), 0.5), tail)
  }
  const factor = formula.instruction('sub', formula.constant(2), square())
  return formula.instruction('mul', factor, density())
}
