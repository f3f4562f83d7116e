import type { DataSet } from '../data/dataset.js'
import { take } from '../data/select.js'
import { planChunks, uploadBatches } from '../device/batches.js'
import type { Device } from '../device/device.js'
import { withSignal } from '../device/native-call.js'
import type { NativeBuffer } from '../native.js'
import type { ParameterLayout } from '../nn/layout.js'
import type { Loss } from '../nn/loss.js'
import type { Model } from '../nn/model.js'
import { uploadPoint } from '../nn/upload.js'
import { dataSum } from './data-sum.js'
import type { Precision } from './operator.js'
import { rootSumProgram } from './root-programs.js'

const KEEP = 2 * 1024 ** 3

/** Indices of the samples per class. Labels outside the classes carry no weight in any loss. */
export function byClass(set: DataSet, classes: number): number[][] {
  const members: number[][] = Array.from({ length: classes }, () => [])
  for (let i = 0; i < set.size; i++) members[set.targets[i]]?.push(i)
  return members
}

export interface ClassSumming {
  readonly device: Device
  readonly model: Model
  readonly params: ArrayLike<number>
  readonly state: ArrayLike<number> | undefined
  readonly set: DataSet
  readonly loss: Loss
  readonly precision: Precision
  readonly block: { selected: boolean[]; layout: ParameterLayout }
  readonly labels: readonly number[]
  readonly members: readonly (readonly number[])[]
  readonly classes: number
  readonly means: NativeBuffer
  readonly rowBytes: number
  readonly batch: number
  readonly signal: AbortSignal | undefined
  readonly advance: (samples: number) => void
}

/** Writes D_{c,c'} to row p C + c' of the means, one class of samples at a time. */
export async function sumClasses(task: ClassSumming): Promise<void> {
  const { device, model, set, precision, block, labels, members, means, rowBytes } = task
  const largest = Math.max(...labels.map((c) => members[c].length))
  const plan = planChunks(task.batch, largest, device.threads, rowBytes)
  const { selected } = block
  const setting = { model, loss: task.loss, set, batch: plan.rows, selected }
  // One program for all classes: chunks have the same size, padded with samples of weight 0.
  const program = rootSumProgram(setting, 'classStructure()')
  const point = uploadPoint(device, model, task.params, task.state, precision)
  const selector = device.binding.createBuffer(4)
  try {
    for (const [p, c] of labels.entries()) {
      const own = uploadBatches(device, take(set, members[c]), plan.rows, precision)
      try {
        const inputs = own.chunks.map(({ x, y, w }) => [...point.views, x, y, w])
        const native = dataSum(device, program, block.layout, inputs, {
          ...{ precision, sideBySide: plan.sideBySide, keepBytes: KEEP },
          scale: 1 / members[c].length,
          selector: { buffer: selector, offset: 0 },
        })
        try {
          for (let k = 0; k < task.classes; k++) {
            const row = { buffer: means, offset: (p * task.classes + k) * rowBytes }
            await withSignal(device.binding, task.signal, (token) =>
              Promise.all([
                selector.write(0, Int32Array.of(k), { token }),
                native.apply(point.views[0], row, 1, { token }),
              ]),
            )
            task.advance(members[c].length)
          }
        } finally {
          native.dispose()
        }
      } finally {
        own.dispose()
      }
    }
  } finally {
    selector.dispose()
    point.dispose()
  }
}
