#!/usr/bin/env bash
# npm start: set up, then train small networks, compute their Hessian spectra, write report/.
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/setup.sh
exec node dist/cli/main.js demo "$@"
