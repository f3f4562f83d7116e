import type { DeviceOperator } from '../lib/curvature/native-operator.js'
import { applyNative } from '../lib/curvature/tangents.js'
import type { Device } from '../lib/index.js'
import { randomVector } from './inputs.js'
import type { Prepared } from './types.js'

/**
 * Products of `count` vectors that lie on the device, as the peer's lie in its tensors. Takes
 * `operator` and `device` over.
 */
export async function residentProduct(
  device: Device,
  operator: DeviceOperator,
  count: number,
  limit: Prepared['limit'],
): Promise<Prepared> {
  const { storage } = operator.layout
  const [input, output] = [0, 1].map(() => ({
    buffer: device.binding.createBuffer(4 * storage * count),
    offset: 0,
  }))
  const vectors = new Float32Array(storage * count)
  for (let r = 0; r < count; r++) {
    const into = vectors.subarray(r * storage, (r + 1) * storage)
    operator.layout.toStorage(randomVector(operator.size, 3 + r), into)
  }
  await input.buffer.write(0, vectors)
  return {
    run: () => applyNative(operator.native, input, output, count),
    limit,
    dispose() {
      input.buffer.dispose()
      output.buffer.dispose()
      operator.dispose()
      device.dispose()
    },
  }
}
