import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // Processes rather than threads: each test file gets an addon and an OpenMP pool of its own.
    pool: 'forks',
    maxWorkers: 2,
    // Worker threads that the sources start are TypeScript too.
    execArgv: ['--import', new URL('./test/typescript-hooks.mjs', import.meta.url).href],
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
})
