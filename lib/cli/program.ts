import { readFileSync } from 'node:fs'
import { Command, CommanderError } from 'commander'
import { EXIT, jsonError } from './exit.js'

interface Entry {
  readonly summary: string
  readonly load: () => Promise<{ command(): Command }>
}

/** Only the command that runs is loaded. */
const COMMANDS: Readonly<Record<string, Entry>> = {
  doctor: {
    summary: 'check the installation: addon, libraries, threads, a self-test',
    load: () => import('./doctor.js'),
  },
  train: { summary: 'train a network into a run folder', load: () => import('./train.js') },
  eval: { summary: 'loss and accuracy of a run on a data set', load: () => import('./eval.js') },
  spectrum: {
    summary: 'extreme eigenvalues, spectral density and trace of the Hessian of a run',
    load: () => import('./spectrum.js'),
  },
  surface: {
    summary: "the loss on the plane of a run's checkpoints, with the path of the training",
    load: () => import('./surface.js'),
  },
  attention: {
    summary: 'singular values, maps and cost of the attention of a vision transformer',
    load: () => import('./attention.js'),
  },
  report: { summary: 'one HTML page with pictures of runs', load: () => import('./report.js') },
  reproduce: {
    summary: "a paper's experiments over several seeds, with verdicts on its claims",
    load: () => import('./reproduce.js'),
  },
  bench: {
    summary: 'the benchmarks, against PyTorch where it is there',
    load: () => import('./bench.js'),
  },
  demo: {
    summary: 'train small networks, compare their Hessian spectra, write a report',
    load: () => import('./demo.js'),
  },
}

/** The version of this package. */
export function packageVersion(): string {
  const file = new URL('../../package.json', import.meta.url)
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version
}

/** Runs the command line; sets `process.exitCode`. */
export async function run(argv: readonly string[]): Promise<void> {
  const json = argv.includes('--json')
  const program = new Command('losscape')
    .description('Loss landscapes of neural networks: training, Hessian spectra, reports.')
    .version(packageVersion(), '-V, --version', 'print the version')
    .helpCommand('help [command]', 'the help of a command')
    .showHelpAfterError("Run 'losscape --help' for the commands.")
    .addHelpText('after', "\nRun 'losscape COMMAND --help' for options and examples.")
    .exitOverride()
    .configureOutput(json ? { writeErr: () => {} } : {})
  const wanted = argv.find((word) => !word.startsWith('-') && word !== 'help')
  for (const [name, { summary, load }] of Object.entries(COMMANDS)) {
    const command =
      name === wanted ? (await load()).command() : new Command(name).allowUnknownOption()
    command
      .name(name)
      .summary(summary)
      .exitOverride()
      .configureOutput(program.configureOutput())
      .showHelpAfterError(`Run 'losscape ${name} --help' for options and examples.`)
    program.addCommand(command)
  }
  try {
    await program.parseAsync(argv, { from: 'user' })
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error
    if (error.exitCode === 0) return
    // Without a command, commander has shown the help and gives no reason.
    const message = error.message
      .replace(/^error: /, '')
      .replace('(outputHelp)', 'no command given')
    if (json) process.stderr.write(`${jsonError('ERR_ARGUMENT', message)}\n`)
    process.exitCode = EXIT.usage
  }
}
