import { existsSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArguments, selectCases, USAGE, UsageError } from './args.js'
import { FULL, QUICK, runCase } from './harness.js'
import { describeMachine } from './machine.js'
import { Peer } from './peer.js'
import { defaultThreads, libraryVersions, machineRates } from './rates.js'
import { CASES } from './suites/index.js'
import { formatTable, formatValue } from './table.js'
import type { BenchContext, BenchReport } from './types.js'

/** Runs the benchmarks that `argv` asks for; the table goes to stdout, progress to stderr. */
export async function main(argv: string[]): Promise<BenchReport | null> {
  const args = parseArguments(argv)
  const cases = selectCases(CASES, args.filters)
  if (args.help || args.list) {
    console.log(
      args.help ? USAGE : cases.map(({ id, what }) => `${id.padEnd(22)} ${what}`).join('\n'),
    )
    return null
  }
  const threads = args.threads ?? defaultThreads()
  const context: BenchContext = {
    device: args.device,
    threads,
    quick: args.quick,
    rates: machineRates({ threads, quick: args.quick }),
    dataRoot: findData(),
  }
  const peer = cases.some((bench) => bench.peer)
    ? await Peer.start(args.peer, { threads, device: args.device })
    : null
  if (peer === null) console.error(`No peer: ${args.peer} cannot import torch.`)
  const report: BenchReport = {
    machine: describeMachine({
      ...context,
      versions: {
        ...libraryVersions(),
        ...(peer === null ? {} : { torch: peer.version }),
      },
    }),
    results: [],
  }
  try {
    for (const bench of cases) {
      const options = args.quick ? QUICK : FULL
      const result = await runCase(bench, context, peer, options, (line) => console.error(line))
      report.results.push(result)
      const share = result.ratio === null ? '' : `, ${result.ratio.toFixed(2)}x`
      console.error(`${bench.id}: ${formatValue(result.ours!, bench.metric)}${share}`)
    }
  } finally {
    await peer?.stop()
  }
  console.log(formatTable(report.results))
  if (args.json !== null) {
    await mkdir(dirname(args.json), { recursive: true })
    await writeFile(args.json, `${JSON.stringify(report, null, 2)}\n`)
  }
  return report
}

function findData(): string | null {
  const root =
    process.env.LOSSCAPE_DATA ?? fileURLToPath(new URL('../../shared/data', import.meta.url))
  return existsSync(`${root}/mnist`) ? root : null
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  main(process.argv.slice(2)).catch((error: unknown) => {
    console.error(error instanceof UsageError ? `${error.message}\n\n${USAGE}` : error)
    process.exitCode = error instanceof UsageError ? 2 : 1
  })
}
