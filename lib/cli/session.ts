import type { Command } from 'commander'
import { LosscapeError } from '../errors.js'
import { describeFailure, Interrupted } from './exit.js'
import { openProgress, type Progress, silentProgress } from './progress.js'

/** Options that every command has. */
export interface OutputOptions {
  json?: boolean
  quiet?: boolean
  verbose?: boolean
}

/** What a running command talks to: results to stdout, everything for people to stderr. */
export interface Session {
  readonly json: boolean
  /** Fires at the first SIGINT or SIGTERM; the second one ends the process. */
  readonly signal: AbortSignal
  /** The command line that goes on where an interrupt stopped; set once there is something saved. */
  resume?: string
  /** A line for people. */
  note(text: string): void
  progress(label: string): Progress
  /** The result: JSON with `--json`, else what `text` says (nothing by default). */
  result(value: unknown, text?: () => string): void
}

/** Adds `--json`, `--quiet` and `--verbose`. */
export function withOutputOptions(command: Command): Command {
  return command
    .option('--json', 'print the result as JSON on stdout; people read stderr')
    .option('-q, --quiet', 'no progress and no remarks')
    .option('--verbose', 'print stacks of errors')
}

/**
 * Runs a command's body: hands it a session, turns an abort by signal into exit status 130 with the
 * way to resume, any other error into one line and exit status 1. `body` returns the status.
 */
export async function runSession(
  options: OutputOptions,
  body: (session: Session) => Promise<number>,
): Promise<void> {
  const controller = new AbortController()
  const bars = new Set<Progress>()
  const session: Session = {
    json: options.json ?? false,
    signal: controller.signal,
    note(text) {
      if (options.quiet) return
      for (const bar of bars) bar.clear()
      process.stderr.write(`${text}\n`)
    },
    progress(label) {
      if (options.quiet) return silentProgress
      const bar = openProgress(label)
      bars.add(bar)
      return bar
    },
    result(value, text) {
      if (options.json) process.stdout.write(`${JSON.stringify(value)}\n`)
      else if (text) process.stdout.write(`${text()}\n`)
    },
  }
  const stop = (signal: NodeJS.Signals): void => {
    if (controller.signal.aborted) process.exit(signal === 'SIGINT' ? 130 : 143)
    controller.abort(new Error(`stopped by ${signal}`))
    session.note('Stopping at the next step; once more to end at once.')
  }
  process.on('SIGINT', stop).on('SIGTERM', stop)
  try {
    process.exitCode = await body(session)
  } catch (error) {
    for (const bar of bars) bar.clear()
    const { text, status } = describeFailure(asInterrupt(error, session), {
      json: session.json,
      verbose: options.verbose === true || Boolean(process.env.LOSSCAPE_DEBUG),
    })
    process.stderr.write(`${text}\n`)
    process.exitCode = status
  } finally {
    process.off('SIGINT', stop).off('SIGTERM', stop)
  }
}

function asInterrupt(error: unknown, session: Session): unknown {
  const aborted = error instanceof LosscapeError && error.code === 'ERR_ABORTED'
  if (!aborted || !session.signal.aborted) return error
  const saved = session.resume ? 'Interrupted; what was finished is saved.' : 'Interrupted.'
  return new Interrupted(saved, session.resume)
}
