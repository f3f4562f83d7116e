/**
 * Lets worker threads of the tests run the TypeScript sources. Test files themselves are compiled
 * by vitest; a `new Worker('...ts')` is loaded by Node, which needs these hooks (Node 20 cannot
 * strip types). Registered by `--import` in vitest.config.ts, which workers inherit.
 */
import { register } from 'node:module'

register('./typescript-loader.mjs', import.meta.url)
