import { requireArguments } from '../arguments.js'
import { withPath } from './folder.js'
import { decodeNpy, type NpyArray } from './npy.js'
import { readZip, type ZipOptions } from './zip.js'

/**
 * Arrays of an `.npz` file by key (entry names without `.npy`); other entries are ignored.
 * Limits and errors as in {@link readZip} and `readNpy`.
 */
export async function readNpz(
  path: string,
  options: ZipOptions = {},
): Promise<Map<string, NpyArray>> {
  requireArguments('readNpz()', { path })
  const { filter, ...limits } = options
  const entries = await readZip(path, {
    ...limits,
    filter: (name) => name.endsWith('.npy') && (filter?.(name.slice(0, -4)) ?? true),
  })
  const arrays = new Map<string, NpyArray>()
  for (const [name, bytes] of entries) {
    const key = name.slice(0, -4)
    arrays.set(
      key,
      withPath(path, () => decodeNpy(bytes, `array '${key}'`)),
    )
  }
  return arrays
}
