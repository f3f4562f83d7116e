import type { JobOptions, NativeOperator, NativeView, WrapperSpec } from '../native.js'

/** What has to be compiled before a product of `count` vectors. */
type Prepare = (count: number) => void

const preparations = new WeakMap<NativeOperator, Prepare>()

/** Numbers of vectors that one pass serves: powers of two up to `most`, and `most` itself. */
function passSizes(most: number): number[] {
  const sizes: number[] = []
  for (let size = 1; size < most; size *= 2) sizes.push(size)
  return [...sizes, most]
}

/**
 * Passes over the data for several vectors at once are compiled when a product first needs them:
 * most operators are only ever applied to one vector, and every size takes its time on the event
 * loop. A product of `count` vectors takes the largest pass that fits, again and again, and what is
 * compiled does not depend on the products before it.
 */
export function compileLater(
  native: NativeOperator,
  most: number,
  compile: (tangents: number) => void,
): void {
  const sizes = passSizes(most)
  const ready = new Set([1])
  preparations.set(native, (count) => {
    for (let left = count; left > 1; ) {
      const size = sizes.findLast((s) => s <= left) as number
      if (!ready.has(size)) compile(size)
      ready.add(size)
      left %= size
    }
  })
}

/** A wrapper hands blocks of vectors to the operators that it wraps. */
export function prepareWrapped(native: NativeOperator, spec: WrapperSpec): void {
  const inner = spec.kind === 'sum' ? spec.terms.map(({ operator }) => operator) : [spec.operator]
  preparations.set(native, (count) => {
    for (const operator of inner) preparations.get(operator)?.(count)
  })
}

/** `native.apply`, after what it needs is compiled. */
export function applyNative(
  native: NativeOperator,
  input: NativeView,
  output: NativeView,
  count: number,
  options?: JobOptions & { onProgress?: (done: number, total: number) => void },
): Promise<void> {
  if (count > 1) preparations.get(native)?.(count)
  return native.apply(input, output, count, options)
}
