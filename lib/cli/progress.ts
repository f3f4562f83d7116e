/** Where progress goes; `process.stderr` fits. */
export interface ProgressStream {
  write(text: string): unknown
  readonly isTTY?: boolean
  readonly columns?: number
}

/** Progress of one stage: a bar on a terminal, a line every ten seconds and at the end elsewhere. */
export interface Progress {
  update(done: number, total: number, note?: string): void
  /** Replaces the bar by a line; `note` says what came out. */
  finish(note?: string): void
  /** Takes the bar away without a word. */
  clear(): void
}

const BAR = 24
const REDRAW_MS = 80
const LINE_MS = 10_000

/** A bar `label ━━━━━── 62 %  3.1 s left  note`, redrawn in place. */
export function openProgress(
  label: string,
  stream: ProgressStream = process.stderr,
  now: () => number = () => performance.now(),
): Progress {
  const begin = now()
  const terminal = stream.isTTY === true
  let drawn = terminal ? -Infinity : begin
  let open = false

  const erase = (): void => {
    if (open) stream.write('\r\x1b[K')
    open = false
  }
  return {
    update(done, total, note = '') {
      const time = now()
      if (time - drawn < (terminal ? REDRAW_MS : LINE_MS)) return
      drawn = time
      const share = total > 0 ? Math.min(1, Math.max(0, done / total)) : 0
      const left = share > 0 ? ((time - begin) * (1 - share)) / share : Number.NaN
      const parts = [`${Math.floor(100 * share)} %`.padStart(5)]
      if (Number.isFinite(left)) parts.push(`${seconds(left)} left`)
      if (note) parts.push(note)
      if (!terminal) {
        stream.write(`${label}: ${parts.join('  ').trim()}\n`)
        return
      }
      const full = Math.round(BAR * share)
      const bar = '━'.repeat(full) + '─'.repeat(BAR - full)
      const line = `${label} ${bar} ${parts.join('  ')}`
      stream.write(`\r\x1b[K${[...line].slice(0, (stream.columns ?? 80) - 1).join('')}`)
      open = true
    },
    finish(note = '') {
      erase()
      stream.write(`${label}: ${note ? `${note}, ` : ''}${seconds(now() - begin)}\n`)
    },
    clear: erase,
  }
}

/** A progress that shows nothing. */
export const silentProgress: Progress = { update() {}, finish() {}, clear() {} }

function seconds(ms: number): string {
  const s = ms / 1000
  if (s < 10) return `${s.toFixed(1)} s`
  if (s < 120) return `${Math.round(s)} s`
  return `${Math.floor(s / 60)} min ${Math.round(s % 60)} s`
}
