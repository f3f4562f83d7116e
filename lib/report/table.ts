export interface TextTableOptions {
  /** Alignment of each column; default: left for the first, right for the others. */
  align?: ('left' | 'right')[]
  /** Text between columns, default two spaces. */
  gap?: string
}

/**
 * A table for a terminal: columns padded to their widest cell, a rule under the header.
 *
 * @example
 * textTable(['run', 'loss'], [['a', '0.1'], ['bb', '0.02']])
 * // run  loss
 * // ---  ----
 * // a     0.1
 * // bb   0.02
 */
export function textTable(
  header: readonly string[],
  rows: readonly (readonly string[])[],
  options: TextTableOptions = {},
): string {
  const columns = Math.max(header.length, ...rows.map((row) => row.length))
  const widths = Array.from({ length: columns }, (_, c) =>
    Math.max(...[header, ...rows].map((line) => width(line[c] ?? ''))),
  )
  const lines = [header, widths.map((w) => '-'.repeat(w)), ...rows]
  const align = (c: number) => options.align?.[c] ?? (c === 0 ? 'left' : 'right')
  return lines
    .map((line) =>
      widths
        .map((w, c) => {
          const cell = line[c] ?? ''
          const space = ' '.repeat(w - width(cell))
          return align(c) === 'left' ? cell + space : space + cell
        })
        .join(options.gap ?? '  ')
        .trimEnd(),
    )
    .join('\n')
}

/** Code points, which is the width on a terminal for all that this package prints. */
function width(text: string): number {
  return [...text].length
}
