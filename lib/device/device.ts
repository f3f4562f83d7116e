import { createHash } from 'node:crypto'
import { argumentError } from '../arguments.js'
import { LosscapeError } from '../errors.js'
import type {
  CompileOptions,
  NativeBinding,
  NativeExecutable,
  NativeInfo,
  NativeMemory,
} from '../native.js'
import { requireOptions } from '../options.js'
import { native } from './loader.js'

export interface OpenOptions {
  /** 'cpu', 'cuda:0', ..., or 'auto' (default): the best device there is. */
  readonly device?: string
  /** Threads of the process's executor. Default: what affinity and cgroup quota allow. */
  readonly threads?: number
  /**
   * Upper limit of native memory in bytes, of the whole process: that of all devices together, in
   * every worker. Beyond it ERR_OUT_OF_MEMORY. It holds until the next `open` with a limit, also
   * after this device is disposed; 0 lifts it. Default: as it is, at first none.
   */
  readonly memoryLimit?: number
}

/** Executables kept per device. */
const CACHE_SIZE = 64

/** A device that programs run on. Disposable; what was made on it has to be disposed first. */
export class Device {
  readonly name: string
  readonly info: NativeInfo
  private readonly native: NativeBinding
  private readonly executables = new Map<string, NativeExecutable>()
  private disposed = false

  constructor(
    name: string,
    binding: NativeBinding,
    readonly threads: number,
  ) {
    this.name = name
    this.native = binding
    this.info = binding.info()
  }

  /** What is made here is made with it. Throws ERR_DISPOSED. */
  get binding(): NativeBinding {
    if (this.disposed) throw new LosscapeError('ERR_DISPOSED', 'The device has been disposed.')
    return this.native
  }

  /** Live handles and bytes of native memory, of the whole process; also of a disposed device. */
  memory(): NativeMemory {
    return this.native.memory()
  }

  /**
   * Compiles an encoded program, or finds it in the cache (least recently used ones leave).
   * The executable belongs to the device: do not dispose it.
   */
  compileEncoded(
    names: readonly string[],
    words: Float64Array,
    options: CompileOptions = {},
  ): NativeExecutable {
    const { binding } = this
    const threads = options.threads ?? this.threads
    const key = createHash('sha256')
      .update(JSON.stringify([threads, options.donate ?? [], names]))
      .update(new Uint8Array(words.buffer, words.byteOffset, words.byteLength))
      .digest('base64')
    const cached = this.executables.get(key)
    if (cached) {
      this.executables.delete(key)
      this.executables.set(key, cached)
      return cached
    }
    const made = binding.compile([...names], words, { ...options, threads })
    this.executables.set(key, made)
    if (this.executables.size > CACHE_SIZE) {
      const [oldest] = this.executables.keys()
      // Whoever still runs it holds it natively; only the cache lets go.
      this.executables.delete(oldest)
    }
    return made
  }

  /** Drops compiled programs. Further use throws ERR_DISPOSED. Jobs in flight finish. */
  dispose(): void {
    this.disposed = true
    for (const executable of this.executables.values()) executable.dispose()
    this.executables.clear()
  }

  [Symbol.dispose](): void {
    this.dispose()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.dispose()
  }
}

/**
 * Opens a device. Threads and memory limit belong to the process, not to the device: the executor
 * and the accounting are shared, and the last `open` that gives one decides.
 *
 * @throws ERR_DEVICE for an unknown or absent device, ERR_ARGUMENT for bad options, ERR_NATIVE
 * when the addon cannot be loaded
 */
export async function open(options: OpenOptions = {}): Promise<Device> {
  requireOptions('open()', options, ['device', 'threads', 'memoryLimit'])
  const { device = 'auto', threads, memoryLimit } = options
  if (typeof device !== 'string') throw argumentError('open()', 'device', 'a string', device)
  if (/^cuda(:\d+)?$/.test(device)) {
    throw new LosscapeError(
      'ERR_DEVICE',
      `Device '${device}' is not available: this build has no CUDA library. Use 'cpu' or 'auto'.`,
    )
  }
  if (device !== 'cpu' && device !== 'auto') {
    throw new LosscapeError(
      'ERR_DEVICE',
      `Unknown device '${device}'; expected 'cpu', 'cuda:0' or 'auto'.`,
    )
  }
  if (threads !== undefined && !(Number.isInteger(threads) && threads >= 1 && threads <= 1024)) {
    throw new LosscapeError('ERR_ARGUMENT', `threads must be from 1 to 1024, got ${threads}.`)
  }
  if (memoryLimit !== undefined && !(Number.isSafeInteger(memoryLimit) && memoryLimit >= 0)) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `memoryLimit must be a number of bytes, got ${memoryLimit}.`,
    )
  }
  const binding = defaultBinding()
  const count = threads ?? binding.info().threads
  binding.setThreads(count)
  if (memoryLimit !== undefined) binding.setMemoryLimit(memoryLimit)
  return new Device('cpu', binding, count)
}

/** The addon, loaded at first use. Throws ERR_NATIVE. */
export function defaultBinding(): NativeBinding {
  return native() as NativeBinding
}
