/** Entry of the worker threads that make training batches: see batch-pool.ts. */
import { parentPort, workerData } from 'node:worker_threads'
import { type BatchJob, type BatchSetting, makeBatch } from './batch-maker.js'

export interface WorkerRequest extends BatchJob {
  readonly x: ArrayBuffer
  readonly y: ArrayBuffer
}

/** The memory comes back with every answer. */
export interface WorkerReply {
  readonly step: number
  readonly x: ArrayBuffer
  readonly y: ArrayBuffer
}

const setting = workerData as BatchSetting

parentPort?.on('message', ({ x, y, ...job }: WorkerRequest) => {
  makeBatch(setting, job, x, y)
  const reply: WorkerReply = { step: job.step, x, y }
  parentPort?.postMessage(reply, [x, y])
})
