export type { FileContent, WriteOptions } from './atomic.js'
export { writeFileAtomic } from './atomic.js'
export { decodeBfloat, decodeHalf } from './half.js'
export type { JsonLines, JsonRecord } from './jsonl.js'
export { appendJsonLines, readJsonLines, truncateJsonLines } from './jsonl.js'
export type {
  SafeTensor,
  SafetensorsDType,
  SafetensorsFile,
  TensorData,
  TensorSource,
} from './safetensors.js'
export { readSafetensors, writeSafetensors } from './safetensors.js'
