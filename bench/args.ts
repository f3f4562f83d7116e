import { parseArgs } from 'node:util'

export interface BenchArguments {
  /** Prefixes of case ids; empty means all. */
  filters: string[]
  device: string
  json: string | null
  peer: string
  quick: boolean
  threads: number | null
  list: boolean
  help: boolean
}

export const USAGE = `usage: npm run bench -- [SUITE | CASE]... [options]

  --device cpu|cuda   where to run (default cpu)
  --threads N         threads of both sides (default: what the machine offers)
  --json FILE         write machine and results as JSON
  --peer PYTHON       a Python that can import torch (default LOSSCAPE_PEER_PYTHON, or python3)
  --quick             fewer and shorter repetitions: a smoke test, no numbers to keep
  --list              print the cases

  npm run bench -- hvp lanczos/reorth --json results.json`

/** The command line is wrong; the message says how. */
export class UsageError extends Error {}

/** Throws a {@link UsageError} on unknown options or values. */
export function parseArguments(
  argv: string[],
  environment: Record<string, string | undefined> = process.env,
): BenchArguments {
  const { values, positionals } = parse(argv)
  const threads = values.threads === undefined ? null : Number(values.threads)
  if (threads !== null && !(Number.isInteger(threads) && threads >= 1)) {
    throw new UsageError(`--threads takes a whole number from 1, not "${values.threads}"`)
  }
  return {
    filters: positionals,
    device: values.device,
    json: values.json ?? null,
    peer: values.peer ?? (environment.LOSSCAPE_PEER_PYTHON || 'python3'),
    quick: values.quick,
    threads,
    list: values.list,
    help: values.help,
  }
}

/** Cases whose id is a filter or begins with `filter/`. Throws a {@link UsageError} when a filter selects nothing. */
export function selectCases<T extends { id: string }>(cases: T[], filters: string[]): T[] {
  if (filters.length === 0) return cases
  const matches = (id: string, filter: string) => id === filter || id.startsWith(`${filter}/`)
  for (const filter of filters) {
    if (!cases.some(({ id }) => matches(id, filter))) {
      const known = cases.map(({ id }) => id).join(', ')
      throw new UsageError(`no benchmark "${filter}"; there are: ${known}`)
    }
  }
  return cases.filter(({ id }) => filters.some((filter) => matches(id, filter)))
}

function parse(args: string[]) {
  try {
    return parseArgs({
      args,
      allowPositionals: true,
      options: {
        device: { type: 'string', default: 'cpu' },
        json: { type: 'string' },
        peer: { type: 'string' },
        quick: { type: 'boolean', default: false },
        threads: { type: 'string' },
        list: { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
      },
    })
  } catch (error) {
    throw new UsageError((error as Error).message)
  }
}
