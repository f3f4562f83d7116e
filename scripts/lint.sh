#!/usr/bin/env bash
# npm run lint checks formatting, lint rules and types; npm run format (--fix) mends what it can.
set -euo pipefail
cd "$(dirname "$0")/.."
mapfile -t native < <(git ls-files --cached --others --exclude-standard 'native/*.cc' 'native/*.h' 'native/*.cu')
if [ "${1:-}" = --fix ]; then
  npx --no-install biome check --write .
  clang-format -i "${native[@]}"
else
  npx --no-install biome check --error-on-warnings .
  clang-format --dry-run -Werror "${native[@]}"
  npx --no-install tsc --noEmit
fi
