import { Command } from 'commander'
import { EXIT, UsageError } from './exit.js'
import { reportData } from './report-data.js'
import { type OutputOptions, runSession, type Session, withOutputOptions } from './session.js'

interface ReportFlags extends OutputOptions {
  out: string
  title?: string
}

/** `losscape report RUN...` */
export function command(): Command {
  const base = new Command()
    .description(
      'Writes one self-contained HTML page about runs side by side: training curves, eigenvalue ' +
        'density, outliers, scalars with error bars, provenance; figures as SVG and PNG, arrays as ' +
        '.npy. Damaged files of a run are left out, which the page tells.',
    )
    .argument('<runs...>', 'run folders')
    .option('--out <folder>', 'folder of the report', 'report')
    .option('--title <text>', 'title of the page')
  return withOutputOptions(base)
    .addHelpText(
      'after',
      `
Examples:
  losscape report runs/a
  losscape report runs/narrow runs/wide --out report/ --title 'Width'`,
    )
    .action((folders: string[], flags: ReportFlags) =>
      runSession(flags, (session) => report(folders, flags, session)),
    )
}

async function report(folders: string[], flags: ReportFlags, session: Session): Promise<number> {
  const repeated = folders.find((folder, i) => folders.indexOf(folder) !== i)
  if (repeated !== undefined) {
    throw new UsageError(`${repeated} is named twice.`)
  }
  const data = await reportData(folders, flags.title)
  for (const problem of data.problems ?? []) session.note(`Left out: ${problem}`)
  const { writeReport } = await import('../report/write.js')
  const bar = session.progress('report')
  const files = await writeReport(flags.out, data, {
    signal: session.signal,
    onProgress: (done, total) => bar.update(done, total),
  })
  const { length } = data.runs
  bar.finish(`${length} ${length === 1 ? 'run' : 'runs'}, ${files.length} files`)
  const { problems } = data
  session.result({ page: files[0], files, ...(problems && { problems }) }, () => files[0])
  return EXIT.ok
}
