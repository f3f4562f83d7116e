import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'

/** './x.js' next to a TypeScript source is './x.ts'. */
export async function resolve(specifier, context, next) {
  const parent = context.parentURL
  if (parent?.endsWith('.ts') && /^\.{1,2}\/.*\.js$/.test(specifier)) {
    const source = new URL(specifier.replace(/\.js$/, '.ts'), parent)
    if (existsSync(source)) return { url: source.href, format: 'module', shortCircuit: true }
  }
  return next(specifier, context)
}

/** Loading the compiler takes longer than most tests, so what it made is kept. */
const CACHE = new URL('../node_modules/.cache/losscape-tests/', import.meta.url)

/** Types are removed, nothing is checked. */
export async function load(url, context, next) {
  if (!url.startsWith('file:') || !url.endsWith('.ts')) return next(url, context)
  const text = await readFile(fileURLToPath(url), 'utf8')
  const kept = new URL(`${createHash('sha256').update(text).digest('hex')}.mjs`, CACHE)
  const source = existsSync(kept) ? await readFile(kept, 'utf8') : await compile(text, kept)
  return { format: 'module', source, shortCircuit: true }
}

async function compile(text, kept) {
  const { ModuleKind, ScriptTarget, transpileModule } = (await import('typescript')).default
  const { outputText } = transpileModule(text, {
    compilerOptions: { module: ModuleKind.ESNext, target: ScriptTarget.ES2022 },
  })
  // Under its name only when complete: test files run side by side.
  const part = new URL(`${kept.href}.${process.pid}.part`)
  await mkdir(CACHE, { recursive: true })
  await writeFile(part, outputText)
  await rename(part, kept)
  return outputText
}
