import { defineOperation } from '../program/registry.js'
import { emitOne, type Tensor } from '../program/tensor.js'

defineOperation({
  name: 'stop_gradient',
  recompute: true,
  batching: 'elementwise',
  type: ([input]) => [{ dtype: input.dtype, shape: input.shape }],
  evaluate: ([x]) => [x],
  jvp: () => [null],
  vjp: () => [null],
  vmap: ([x]) => [emitOne('stop_gradient', [x])],
})

/** x, treated as a constant by every derivative. */
export function stopGradient(x: Tensor): Tensor {
  return emitOne('stop_gradient', [x])
}

/** Suffix of the tap that carries the cotangent of a tapped value. */
export const COTANGENT = ':cotangent'

defineOperation({
  name: 'tap',
  batching: 'elementwise',
  type: ([input]) => [{ dtype: input.dtype, shape: input.shape }],
  evaluate: ([x]) => [x],
  jvp: (_rule, [t]) => [t],
  vjp({ attributes }, [ct]) {
    return [ct && emitOne('tap', [ct], { name: `${attributes.name}${COTANGENT}` })]
  },
  vmap: ([x], _batched, attributes) => [emitOne('tap', [x], attributes)],
})

/**
 * x under a name that survives every pass: `withTaps` makes its value, and after `vjp` or `grad`
 * its cotangent (`NAME:cotangent`), outputs of the program.
 */
export function tap(name: string, x: Tensor): Tensor {
  return emitOne('tap', [x], { name })
}
