import { join } from 'node:path'
import { Command } from 'commander'
import type { Device } from '../device/device.js'
import { formatDuration, formatNumber, formatPercent, formatWithError } from '../report/format.js'
import { textTable } from '../report/table.js'
import { EXIT } from './exit.js'
import { type ComputeOptions, integer, openDevice, withComputeOptions } from './options.js'
import { reportData } from './report-data.js'
import { type OutputOptions, runSession, type Session, withOutputOptions } from './session.js'
import type { SavedSpectrum } from './spectrum-files.js'
import { openSpectrum, runSpectrum } from './spectrum-run.js'
import { type TrainFlags, withTrainOptions } from './train-options.js'
import { prepareTraining, type TrainOutcome, trainPrepared } from './train-run.js'

interface DemoFlags extends OutputOptions, ComputeOptions {
  data: string
  out: string
  runs: string
  epochs: number
  limit: number
  samples: number
  seed: number
}

/** The networks that are compared. */
const NETWORKS = [
  { name: 'narrow', hidden: [16, 16], activation: 'relu' },
  { name: 'wide', hidden: [64, 64], activation: 'relu' },
  { name: 'wide-tanh', hidden: [64, 64], activation: 'tanh' },
] as const

/** `losscape demo`, which `npm start` runs. */
export function command(): Command {
  const base = new Command()
    .description(
      'Trains three small networks, computes their Hessian spectra, prints a table and writes a ' +
        'report with pictures.',
    )
    .option('--data <spec>', 'data set; the default is generated', 'glyphs')
    .option('--out <folder>', 'folder of the report', 'report')
    .option('--runs <folder>', 'folder of the run folders', 'runs/demo')
    .option('--epochs <n>', 'passes over the training data', integer(1), 5)
    .option('--limit <n>', 'training samples at most', integer(1), 10_000)
    .option('--samples <n>', 'samples of the spectra at most', integer(1), 1000)
    .option('--seed <n>', 'of everything random', integer(0), 0)
  return withOutputOptions(withComputeOptions(base))
    .addHelpText(
      'after',
      `
Examples:
  npm start
  npm start -- --data mnist:DIR
  losscape demo --data cifar10:DIR --epochs 3 --out report/cifar`,
    )
    .action((flags: DemoFlags) => runSession(flags, (session) => demo(flags, session)))
}

interface Row {
  name: string
  outcome: TrainOutcome
  spectrum: SavedSpectrum
}

async function demo(flags: DemoFlags, session: Session): Promise<number> {
  const begin = performance.now()
  const device = await openDevice(flags)
  const rows: Row[] = []
  try {
    for (const network of NETWORKS) rows.push(await oneNetwork(device, network, flags, session))
  } finally {
    device.dispose()
  }
  const title = `Width and activation: Hessian spectra on ${flags.data}`
  const data = await reportData(
    rows.map(({ outcome }) => outcome.run),
    title,
  )
  const { writeReport } = await import('../report/write.js')
  const bar = session.progress('report')
  const [page] = await writeReport(flags.out, data, {
    signal: session.signal,
    onProgress: (done, total) => bar.update(done, total),
  })
  bar.finish()
  const result = {
    page,
    runs: rows.map(({ outcome }) => outcome),
    time_ms: performance.now() - begin,
  }
  session.result(result, () => `\n${table(rows)}\n\nReport: ${page}`)
  return EXIT.ok
}

async function oneNetwork(
  device: Device,
  network: (typeof NETWORKS)[number],
  flags: DemoFlags,
  session: Session,
): Promise<Row> {
  const { name, hidden, activation } = network
  const out = join(flags.runs, name)
  session.note(`${name}: two hidden layers of ${hidden[0]}, ${activation}`)
  const training: TrainFlags = {
    ...defaults(),
    ...flags,
    out,
    activation,
    optimizer: 'adam',
    lr: 0.005,
    schedule: 'cosine',
    hidden,
  }
  const prepared = await prepareTraining(training, new Set(), session)
  const outcome = await trainPrepared(device, prepared, { out, overwrite: true }, session)
  const request = {
    kind: 'hessian',
    top: 10,
    probes: 5,
    steps: 60,
    samples: flags.samples,
    seed: flags.seed,
    dtype: flags.dtype,
  } as const
  const opened = await openSpectrum(device, out, request, session.signal)
  try {
    return { name, outcome, spectrum: await runSpectrum(opened, request, session) }
  } finally {
    opened.operator.dispose()
  }
}

/** What `losscape train` would take without flags. */
function defaults(): TrainFlags {
  return withTrainOptions(new Command()).opts<TrainFlags>()
}

function table(rows: readonly Row[]): string {
  const header = ['network', 'n', 'test accuracy', 'λ max', 'λ min', 'trace', 'time']
  return textTable(
    header,
    rows.map(({ name, outcome, spectrum }) => [
      name,
      formatNumber(spectrum.n),
      formatPercent(outcome.test?.accuracy ?? outcome.train?.accuracy),
      formatNumber(spectrum.eigenvalues.top[0]),
      formatNumber(spectrum.eigenvalues.bottom[0]),
      formatWithError(spectrum.trace.value, spectrum.trace.stderr),
      formatDuration(outcome.time_ms + spectrum.time_ms),
    ]),
  )
}
