import type { CompileOptions, NativeExecutable } from '../native.js'
import { encode } from '../program/encode.js'
import { lower } from '../program/passes/index.js'
import type { Program } from '../program/types.js'
import type { Device } from './device.js'

/**
 * Lowers a program and compiles it for a device. Executables are cached per device by their
 * structure, shapes and precision, least recently used ones are dropped first.
 */
export function compileProgram(
  device: Device,
  program: Program,
  precision: 'f32' | 'f64' = 'f32',
  options: CompileOptions = {},
): NativeExecutable {
  const { names, words } = encode(lower(program), precision)
  return device.compileEncoded(names, words, options)
}
