import { Command } from 'commander'
import { textTable } from '../report/table.js'
import type { ReproduceRequest } from '../reproduce/paper.js'
import type { Reproduction } from '../reproduce/run.js'
import { verdictTable } from '../reproduce/table.js'
import { EXIT, UsageError } from './exit.js'
import { type ComputeOptions, integer, openDevice, shellWord } from './options.js'
import { packageVersion } from './program.js'
import { type OutputOptions, runSession, type Session, withOutputOptions } from './session.js'

interface ReproduceFlags extends OutputOptions, ComputeOptions, ReproduceRequest {
  out?: string
}

/** `losscape reproduce NAME` */
export function command(): Command {
  const base = new Command()
    .description(
      "Runs a paper's experiments over several seeds and holds its claims against thresholds. " +
        'Writes results.json, a report with pictures and the finished parts; what an interrupt ' +
        'left unfinished is taken up by the same command.',
    )
    .argument(
      '<name>',
      "the paper: 'hessian' (Sagun et al. 2017), 'karat' (learnable attention, Maity et al. 2025) or " +
        "'bcn' (batch-channel norm and weight standardization, Qiao et al. 2019)",
    )
    .option(
      '--full',
      'more and larger networks: minutes a seed (hessian), hours (karat, bcn)',
      false,
    )
    .option('--seeds <n>', 'seeds 0 .. n-1', integer(1), 3)
    .option(
      '--data <spec>',
      'hessian: adds real data, mnist:DIR; karat, bcn: these images, cifar10:DIR',
    )
    .option('--out <folder>', 'default: reproduce/NAME, with --full reproduce/NAME-full')
    .option('--device <name>', "'cpu', 'cuda:0' or 'auto'", 'auto')
    .option('--threads <n>', 'threads (default: what the machine offers)', integer(1))
  return withOutputOptions(base)
    .addHelpText(
      'after',
      `
Examples:
  losscape reproduce hessian
  losscape reproduce hessian --seeds 5 --out results/hessian
  losscape reproduce hessian --full --data mnist:DIR
  losscape reproduce karat
  losscape reproduce karat --data cifar10:DIR --seeds 3
  losscape reproduce bcn --data cifar10:DIR`,
    )
    .action((name: string, flags: ReproduceFlags) =>
      runSession(flags, (session) => run(name, flags, session)),
    )
}

async function run(name: string, flags: ReproduceFlags, session: Session): Promise<number> {
  const { papers, reproduce } = await import('../reproduce/index.js')
  if (!Object.hasOwn(papers, name)) {
    const known = Object.keys(papers).join(', ')
    throw new UsageError(`There is no paper '${name}'; known are: ${known}.`)
  }
  const paper = papers[name]
  const { seeds, full, data, out = `reproduce/${name}${full ? '-full' : ''}` } = flags
  session.resume = ['losscape', ...process.argv.slice(2)].map(shellWord).join(' ')
  session.note(`${paper.title}\n${paper.reference}`)
  const device = await openDevice(flags)
  const bar = session.progress('reproduce')
  try {
    const { reproduction, page } = await reproduce(device, paper, { seeds, full, data }, out, {
      version: packageVersion(),
      signal: session.signal,
      onProgress: (share, note) => bar.update(share, 1, note),
      onResume(found, total) {
        if (found > 0) session.note(`${found} of ${total} parts were finished before.`)
      },
    })
    bar.finish(`${seeds} seeds`)
    const { claims, time_ms } = reproduction
    session.result({ paper: name, claims, time_ms, seeds: reproduction.seeds, page, out }, () =>
      [verdicts(reproduction), '', `Report: ${page}`].join('\n'),
    )
    return EXIT.ok
  } finally {
    device.dispose()
  }
}

/** One claim a line: too wide for the measure, which stands in the report. */
function verdicts({ claims }: Reproduction): string {
  const { rows } = verdictTable(claims)
  return textTable(
    ['claim', 'threshold', 'values', 'holds in', 'verdict'],
    rows.map(([, , ...rest], i) => [claims[i].id, ...rest]),
    { align: ['left', 'left', 'left', 'right', 'left'] },
  )
}
