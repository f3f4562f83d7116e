// Runs every test runner and prints true counts over all of them as the last line:
// "N passed, N failed, N skipped". Exit status 1 when a test failed, a runner broke, or none ran.
// Arguments are handed to vitest; the native tests run only without arguments.
import { spawn } from 'node:child_process'
import { mkdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const filters = process.argv.slice(2)

/** Runs a command in the root with its output shown; resolves with status and output. */
function run(command, args) {
  return new Promise((done) => {
    const child = spawn(command, args, { cwd: root, stdio: ['ignore', 'pipe', 'inherit'] })
    let output = ''
    child.stdout.on('data', (chunk) => {
      output += chunk
      process.stdout.write(chunk)
    })
    child.on('error', (error) => done({ status: 1, output: String(error) }))
    child.on('close', (status) => done({ status: status ?? 1, output }))
  })
}

/** A runner that ended badly without a failed test (a crash, a file that does not load) counts as one. */
function count(status, passed, failed, skipped = 0) {
  return { passed, failed: status !== 0 && failed === 0 ? 1 : failed, skipped }
}

async function vitest() {
  const file = join(root, 'build', 'vitest.json')
  mkdirSync(join(root, 'build'), { recursive: true })
  rmSync(file, { force: true })
  const { status } = await run(process.execPath, [
    join(root, 'node_modules/vitest/vitest.mjs'),
    'run',
    '--reporter=default',
    '--reporter=json',
    `--outputFile.json=${file}`,
    ...filters,
  ])
  try {
    const report = JSON.parse(readFileSync(file, 'utf8'))
    const broken = report.testResults.filter(
      (suite) => suite.status === 'failed' && suite.assertionResults.length === 0,
    ).length
    return count(
      status,
      report.numPassedTests,
      report.numFailedTests + broken,
      report.numPendingTests + report.numTodoTests,
    )
  } catch {
    return count(1, 0, 0)
  }
}

async function native() {
  const { status, output } = await run(join(root, 'build/Release/losscape_tests'), [])
  const counts = /(\d+) passed, (\d+) failed\s*$/.exec(output)
  return counts ? count(status, Number(counts[1]), Number(counts[2])) : count(1, 0, 0)
}

const results = [await vitest()]
if (filters.length === 0) results.push(await native())
const total = (key) => results.reduce((sum, result) => sum + result[key], 0)
const [passed, failed, skipped] = ['passed', 'failed', 'skipped'].map(total)
console.log(`\n${passed} passed, ${failed} failed, ${skipped} skipped`)
process.exitCode = failed > 0 || passed === 0 ? 1 : 0
