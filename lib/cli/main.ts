#!/usr/bin/env node
import { ioError } from '../files/errors.js'
import { describeFailure, EXIT } from './exit.js'
import { run } from './program.js'

process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  // A closed pipe (`losscape ... | head`) is the reader's choice, not a failure.
  if (error.code === 'EPIPE') process.exit(process.exitCode ?? EXIT.ok)
  const style = { json: process.argv.includes('--json'), verbose: false }
  const failure = describeFailure(ioError('standard output', 'write', error), style)
  process.stderr.write(`${failure.text}\n`)
  process.exit(failure.status)
})

// Nobody reads what is said to people any more: no reason to lose the work.
process.stderr.on('error', () => {})

await run(process.argv.slice(2))
