import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

const WORKER = fileURLToPath(new URL('./peers/worker.py', import.meta.url))

interface Answer {
  ok: boolean
  error?: string
  torch?: string
  variants?: string[]
  unavailable?: Record<string, string>
  times_ms?: number[]
}

/** The peer's process: one Python with torch, asked one thing at a time (see peers/worker.py). */
export class Peer {
  /** Version of torch. */
  readonly version: string

  private constructor(
    private readonly child: ChildProcess,
    private readonly answers: AsyncIterator<string>,
    private readonly python: string,
    private readonly setting: { threads: number; device: string },
    version: string,
  ) {
    this.version = version
  }

  /** null when `python` does not start or cannot import torch. */
  static async start(
    python: string,
    setting: { threads: number; device: string },
  ): Promise<Peer | null> {
    const child = spawn(python, [WORKER], { stdio: ['pipe', 'pipe', 'inherit'] })
    // A write to a process that is gone reports here and at the missing answer; one is enough.
    child.stdin.on('error', () => {})
    const failed = new Promise<string>((resolve) => child.once('error', (e) => resolve(e.message)))
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
    const peer = new Peer(child, lines, python, setting, '')
    const hello = peer.request({ action: 'hello', ...setting }).catch(() => null)
    const answer = await Promise.race([hello, failed])
    if (answer === null || typeof answer === 'string' || !answer.ok || !answer.torch) {
      child.kill()
      return null
    }
    return new Peer(child, lines, python, setting, answer.torch)
  }

  /** Ways the peer offers for that case, and why others could not be used. */
  async setup(
    id: string,
    options: Record<string, unknown>,
  ): Promise<{ variants: string[]; unavailable: Record<string, string> }> {
    const answer = await this.expect({ action: 'setup', case: id, options })
    return { variants: answer.variants ?? [], unavailable: answer.unavailable ?? {} }
  }

  /** Milliseconds per call over one slice. */
  async time(id: string, variant: string, sliceMs: number): Promise<number> {
    const answer = await this.expect({ action: 'run', case: id, variant, slice_ms: sliceMs })
    return answer.times_ms![0]
  }

  async close(id: string): Promise<void> {
    await this.expect({ action: 'close', case: id })
  }

  /** Peak resident bytes that one run of `variant` adds to a fresh process. */
  async peakBytes(id: string, variant: string): Promise<number> {
    const { threads, device } = this.setting
    const { stdout } = await promisify(execFile)(this.python, [
      WORKER,
      '--peak',
      id,
      variant,
      String(threads),
      device,
    ])
    return (JSON.parse(stdout) as { bytes: number }).bytes
  }

  async stop(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return
    const exited = new Promise((resolve) => this.child.once('exit', resolve))
    this.child.stdin!.end()
    await exited
  }

  private async expect(request: Record<string, unknown>): Promise<Answer> {
    const answer = await this.request(request)
    if (!answer.ok) throw new Error(`peer, ${String(request.action)}: ${answer.error}`)
    return answer
  }

  private async request(request: Record<string, unknown>): Promise<Answer> {
    this.child.stdin!.write(`${JSON.stringify(request)}\n`)
    const { value, done } = await this.answers.next()
    if (done) throw new Error('the peer process ended')
    return JSON.parse(value as string) as Answer
  }
}
