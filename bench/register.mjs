// `node --import ./bench/register.mjs bench/main.ts` runs the TypeScript sources as they are, on
// every supported Node: nothing to build first, and no second copy of the library to go stale.
import { register } from 'node:module'

register('./hooks.mjs', import.meta.url)
