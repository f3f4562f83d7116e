#!/usr/bin/env bash
# Builds the native tests with AddressSanitizer and UndefinedBehaviorSanitizer and runs them.
#   LOSSCAPE_BUILD_JOBS=N   compilers at a time (default 2)
set -euo pipefail
cd "$(dirname "$0")/.."
folder=build/sanitize
generator=()
command -v ninja >/dev/null && generator=(-G Ninja)
cmake -S . -B "$folder" "${generator[@]}" -DLOSSCAPE_ADDON=OFF \
  -DLOSSCAPE_SANITIZE=address,undefined >"$folder.log" 2>&1 || { cat "$folder.log"; exit 1; }
cmake --build "$folder" --parallel "${LOSSCAPE_BUILD_JOBS:-2}"
# libgomp keeps its thread pool, OpenBLAS its buffers and OpenCL its drivers until the process ends.
cat >"$folder/leaks.txt" <<'END'
leak:libgomp
leak:libopenblas
leak:libOpenCL
END
LSAN_OPTIONS="suppressions=$folder/leaks.txt:print_suppressions=0" \
  UBSAN_OPTIONS=print_stacktrace=1 \
  "$folder/Release/losscape_tests" "$@"
