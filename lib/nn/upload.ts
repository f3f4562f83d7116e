import { newArray } from '../allocation.js'
import type { Device } from '../device/device.js'
import type { JobOptions, NativeBuffer, NativeView } from '../native.js'
import type { FloatVector, ParameterLayout } from './layout.js'
import type { Model } from './model.js'

export interface DeviceParameters {
  readonly buffer: NativeBuffer
  /** One view per parameter tensor, in layout order. */
  readonly views: readonly NativeView[]
}

/**
 * Copies a logical parameter vector to device storage.
 * @throws ERR_SHAPE unless it has n elements; ERR_NOT_FINITE naming the tensor with a NaN or infinity
 */
export function uploadParameters(
  device: Device,
  layout: ParameterLayout,
  params: ArrayLike<number>,
  precision: 'f32' | 'f64',
  options: JobOptions = {},
): DeviceParameters {
  layout.requireLength(params.length)
  layout.requireFinite(params, precision)
  const bytes = precision === 'f64' ? 8 : 4
  const Real = precision === 'f64' ? Float64Array : Float32Array
  const storage = newArray<FloatVector>(Real, layout.storage, 'The parameters of the model')
  const buffer = device.binding.createBuffer(storage.byteLength)
  // The queue keeps order: whatever runs later at that priority sees the parameters.
  buffer.write(0, layout.toStorage(params, storage), options).catch(() => {})
  return { buffer, views: parameterViews(layout, buffer, bytes) }
}

/** θ and σ of a model on a device. */
export interface DevicePoint {
  /** What {@link Model.apply} takes before the samples: θ.., σ.. */
  readonly views: readonly NativeView[]
  dispose(): void
}

/**
 * Copies parameters and state to the device.
 *
 * @param state σ, logical; default `model.initState()`
 * @throws as {@link uploadParameters} does
 */
export function uploadPoint(
  device: Device,
  model: Model,
  params: ArrayLike<number>,
  state: ArrayLike<number> | undefined,
  precision: 'f32' | 'f64',
  options: JobOptions = {},
): DevicePoint {
  const theta = uploadParameters(device, model.layout, params, precision, options)
  try {
    const sigma = uploadState(device, model, state, precision, options)
    return {
      views: [...theta.views, ...(sigma?.views ?? [])],
      dispose() {
        theta.buffer.dispose()
        sigma?.buffer.dispose()
      },
    }
  } catch (error) {
    theta.buffer.dispose()
    throw error
  }
}

/** Copies σ to the device; null for a model without state, whose σ has no elements. */
export function uploadState(
  device: Device,
  model: Model,
  state: ArrayLike<number> | undefined,
  precision: 'f32' | 'f64',
  options: JobOptions = {},
): DeviceParameters | null {
  const { stateLayout } = model
  if (stateLayout.size === 0) {
    stateLayout.requireLength(state?.length ?? 0)
    return null
  }
  return uploadParameters(device, stateLayout, state ?? model.initState(), precision, options)
}

/** Views of a storage vector, one per tensor. */
export function parameterViews(
  layout: ParameterLayout,
  buffer: NativeBuffer,
  bytesPerElement: number,
): NativeView[] {
  return layout.entries.map((entry) => ({ buffer, offset: entry.storageOffset * bytesPerElement }))
}
