import { readFileSync } from 'node:fs'
import { arch, cpus, platform, release, totalmem } from 'node:os'

/** What a reader must know to judge the numbers. No names of hosts or users. */
export interface MachineDescription {
  cpu: string
  cores: number
  architecture: string
  /** `L1d`, `L2`, `L3`, as the kernel writes them; empty where it does not tell. */
  caches: Record<string, string>
  memoryBytes: number
  system: string
  node: string
  device: string
  threads: number
  /** Of losscape and the libraries it uses, and of the peer when there is one. */
  versions: Record<string, string>
  date: string
  quick: boolean
}

export function describeMachine(options: {
  device: string
  threads: number
  quick: boolean
  versions: Record<string, string>
}): MachineDescription {
  const processors = cpus()
  return {
    cpu: processors[0]?.model.trim() ?? 'unknown',
    cores: processors.length,
    architecture: arch(),
    caches: readCaches('/sys/devices/system/cpu/cpu0/cache'),
    memoryBytes: totalmem(),
    system: `${platform()} ${release()}`,
    node: process.versions.node,
    device: options.device,
    threads: options.threads,
    versions: options.versions,
    date: new Date().toISOString().slice(0, 10),
    quick: options.quick,
  }
}

function readCaches(folder: string): Record<string, string> {
  const caches: Record<string, string> = {}
  const field = (index: number, name: string) =>
    readFileSync(`${folder}/index${index}/${name}`, 'utf8').trim()
  try {
    for (let index = 0; index < 8; index++) {
      const type = field(index, 'type')
      if (type === 'Instruction') continue
      caches[`L${field(index, 'level')}${type === 'Data' ? 'd' : ''}`] = field(index, 'size')
    }
  } catch {
    // Past the last cache, or a system without this folder.
  }
  return caches
}
