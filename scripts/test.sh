#!/usr/bin/env bash
# npm test: set up, then every test. Arguments go to vitest (npm test -- test/ops).
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/setup.sh
exec node scripts/test.mjs "$@"
