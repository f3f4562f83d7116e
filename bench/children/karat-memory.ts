// Prints { bytes, accounted } of one pass through the layer (B 64, forward and backward) or through
// full-rank attention (one image, forward) in this process: `karat-memory.ts layer|full-rank THREADS DEVICE`.
import { karatAttention, open, trace } from '../../lib/index.js'
import { peakDuring } from '../memory.js'
import { resident } from '../programs.js'
import { LAYER, layerGradient } from '../suites/karat.js'

const [what, threads, name] = process.argv.slice(2)
const device = await open({ device: name, threads: Number(threads) })

function fullRank(tokens: number) {
  const { heads, width } = LAYER
  const G = 10
  const rows = [1, heads, tokens, width]
  const edges = [heads, tokens, tokens, G]
  return trace(
    (q, k, v, a, b) => karatAttention(q, k, v, { a, b }, { G, order: 'full' }),
    [rows, rows, rows, edges, edges],
  )
}

// Threads, kernels and compiled JavaScript belong to the baseline, as they do for the peer.
const warm = await resident(device, what === 'layer' ? layerGradient(1) : fullRank(17))
await warm.run()
warm.dispose()
const program = await resident(device, what === 'layer' ? layerGradient(64) : fullRank(197))
const bytes = await peakDuring(program.run)
console.log(JSON.stringify({ bytes, accounted: program.arenaBytes }))
program.dispose()
device.dispose()
