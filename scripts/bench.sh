#!/usr/bin/env bash
# npm run bench -- SUITE...: set up, then `losscape bench`.
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/setup.sh
exec node dist/cli/main.js bench "$@"
