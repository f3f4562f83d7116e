import { argumentError } from '../../arguments.js'
import { LosscapeError } from '../../errors.js'
import type { Norm } from './norm-options.js'

/** As in the published code of each norm; pre-activation branches end in a convolution. */
export function zeroInitDefault({ kind }: Norm, preactivation: boolean): boolean {
  return kind.startsWith('bcn') && !preactivation
}

/** @throws ERR_ARGUMENT for branches that do not end in a scale */
export function requireZeroInit(
  where: string,
  zeroInit: unknown,
  { kind }: Norm,
  preactivation: unknown,
): void {
  for (const [name, flag] of Object.entries({ zeroInit, preactivation })) {
    if (typeof flag !== 'boolean') throw argumentError(where, name, 'true or false', flag)
  }
  if (!zeroInit || (kind !== 'none' && !preactivation)) return
  throw new LosscapeError(
    'ERR_ARGUMENT',
    `${where}: zeroInit needs a norm at the end of the residual branches, which ` +
      `${preactivation ? 'pre-activation blocks' : "networks with norm 'none'"} do not have.`,
  )
}
