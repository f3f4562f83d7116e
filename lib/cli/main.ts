#!/usr/bin/env node
import { run } from './program.js'

// A closed pipe (`losscape ... | head`) is the reader's choice, not a failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error
  process.exit(0)
})

await run(process.argv.slice(2))
