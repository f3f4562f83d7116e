import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { constants } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Command } from 'commander'
import { LosscapeError } from '../errors.js'
import { runSession } from './session.js'

const root = fileURLToPath(new URL('../../', import.meta.url))

/** `losscape bench`: hands its arguments to the harness of the repository. */
export function command(): Command {
  return new Command()
    .description('Runs the benchmarks; they live in the repository, not in the npm package.')
    .argument('[arguments...]', 'suites or cases, and options of the harness')
    .allowUnknownOption()
    .helpOption(false)
    .action((args: string[]) => runSession({}, () => bench(args)))
}

async function bench(args: readonly string[]): Promise<number> {
  const main = join(root, 'bench', 'main.ts')
  if (!existsSync(main)) {
    throw new LosscapeError(
      'ERR_IO',
      'The benchmarks are not part of the npm package. In a clone of the repository run: ' +
        `npm run bench -- ${args.join(' ')}`.trimEnd(),
    )
  }
  const child = spawn(
    process.execPath,
    ['--import', join(root, 'bench', 'register.mjs'), main, ...args],
    { stdio: 'inherit' },
  )
  return new Promise((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (status, signal) =>
      resolve(status ?? 128 + (signal ? constants.signals[signal] : 0)),
    )
  })
}
