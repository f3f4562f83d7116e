import { readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { LosscapeError } from '../errors.js'
import { colors } from './theme.js'

const require = createRequire(import.meta.url)

/** The weights that the theme uses; system fonts are not looked at, so every machine agrees. */
const FONTS = [
  '@expo-google-fonts/arimo/400Regular/Arimo_400Regular.ttf',
  '@expo-google-fonts/arimo/700Bold/Arimo_700Bold.ttf',
]

let loading: Promise<{ Resvg: typeof import('@resvg/resvg-wasm').Resvg; fonts: Uint8Array[] }>

/**
 * Draws an SVG document as PNG with the bundled font; `scale` (default 2) is pixels per SVG
 * pixel. Runs on the calling thread, about 0.1 to 0.5 s a figure.
 *
 * @throws LosscapeError `ERR_FORMAT` when the SVG cannot be parsed or drawn.
 */
export async function svgToPng(svg: string, options: { scale?: number } = {}): Promise<Uint8Array> {
  loading ??= load()
  const { Resvg, fonts } = await loading
  try {
    const drawing = new Resvg(svg, {
      fitTo: { mode: 'zoom', value: options.scale ?? 2 },
      background: colors.paper,
      font: {
        loadSystemFonts: false,
        fontBuffers: fonts,
        defaultFontFamily: 'Arimo',
        sansSerifFamily: 'Arimo',
      },
    })
    const image = drawing.render()
    const png = image.asPng()
    image.free()
    drawing.free()
    return png
  } catch (error) {
    throw new LosscapeError(
      'ERR_FORMAT',
      `The picture could not be drawn from its SVG: ${error instanceof Error ? error.message : String(error)}`,
      { cause: error },
    )
  }
}

/** The WebAssembly build: a fault in it is an exception, in the native build it ends the process. */
async function load() {
  const { initWasm, Resvg } = await import('@resvg/resvg-wasm')
  const [binary, ...fonts] = await Promise.all(
    ['@resvg/resvg-wasm/index_bg.wasm', ...FONTS].map((id) => readFile(require.resolve(id))),
  )
  await initWasm(binary)
  return { Resvg, fonts }
}
