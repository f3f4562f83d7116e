import { argumentError } from '../../arguments.js'
import { LosscapeError } from '../../errors.js'
import { type KaratHead, type KaratOptions, type KaratSetting, karatSetting } from './options.js'

/** Heads that compute alike and so share tensors. */
export interface HeadGroup {
  readonly heads: readonly number[]
  /** null: softmax. */
  readonly setting: KaratSetting | null
  /** Before the names of the group's tensors: '' when it is the only learnable one, else `0.`. */
  readonly prefix: string
}

/**
 * The heads of a block, grouped by what they do; learnable groups in the order of their first head.
 *
 * @throws ERR_ARGUMENT for a list of another length than `heads`, or an entry that is neither
 * 'softmax' nor { G, r }
 */
export function headGroups(options: KaratOptions | null, heads: number): readonly HeadGroup[] {
  const all = Array.from({ length: heads }, (_, h) => h)
  if (options === null) return [{ heads: all, setting: null, prefix: '' }]
  const { heads: list, ...common } = options
  const setting = karatSetting(common)
  if (list === undefined) return [{ heads: all, setting, prefix: '' }]
  if (!Array.isArray(list) || list.length !== heads) {
    throw new LosscapeError(
      'ERR_ARGUMENT',
      `karat attention expected one entry of heads for each of ${heads} heads, got ${
        Array.isArray(list) ? list.length : String(list)
      }.`,
    )
  }
  const found = new Map<string, { heads: number[]; setting: KaratSetting | null }>()
  for (const [h, entry] of list.entries()) {
    const own = headSetting(entry, common)
    const key = own ? `${own.G}/${own.r}` : 'softmax'
    const group = found.get(key)
    if (group) group.heads.push(h)
    else found.set(key, { heads: [h], setting: own })
  }
  const learnable = [...found.values()].filter((group) => group.setting).length
  let index = 0
  return [...found.values()].map((group) => ({
    ...group,
    prefix: group.setting && learnable > 1 ? `${index++}.` : '',
  }))
}

function headSetting(entry: KaratHead, common: KaratOptions): KaratSetting | null {
  if (entry === 'softmax') return null
  const sound =
    typeof entry === 'object' &&
    entry !== null &&
    Object.keys(entry).every((name) => name === 'G' || name === 'r')
  if (!sound) {
    throw argumentError('karat attention', 'an entry of heads', "'softmax' or { G, r }", entry)
  }
  return karatSetting({ ...common, ...entry })
}
