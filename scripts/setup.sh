#!/usr/bin/env bash
# Brings a clone to the point where everything runs: system packages, npm packages, native build,
# TypeScript build. Each step is skipped when there is nothing to do.
#   LOSSCAPE_SETUP_LINT=1   also wants clang-format
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'losscape: %s\n' "$*" >&2; }
die() {
  say "$*"
  exit 1
}

node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a === 20 && b >= 19) ? 0 : 1)' \
  || die "Node >= 20.19 is needed, this is $(node --version 2>/dev/null || echo 'none'): install a newer one."

# One run at a time: two builds in one folder would trample each other.
if command -v flock >/dev/null && [ -z "${LOSSCAPE_SETUP_LOCKED:-}" ]; then
  mkdir -p build
  LOSSCAPE_SETUP_LOCKED=1 exec flock build/.setup.lock bash scripts/setup.sh "$@"
fi

missing_packages() {
  local tool package
  for tool in g++:g++ cmake:cmake ninja:ninja-build ${LOSSCAPE_SETUP_LINT:+clang-format:clang-format}; do
    command -v "${tool%%:*}" >/dev/null || echo "${tool##*:}"
  done
  for package in libdnnl-dev libopenblas-openmp-dev libhwy-dev; do
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || echo "$package"
  done
}

install_system_packages() {
  export DEBIAN_FRONTEND=noninteractive
  local install=(apt-get install -y -qq --no-install-recommends "$@")
  say "installing system packages: $*"
  # A machine that has package lists already needs no update, and one without them needs it.
  "${install[@]}" >build/apt.log 2>&1 && return
  { apt-get update -qq && "${install[@]}"; } >>build/apt.log 2>&1 && return
  tail -n 20 build/apt.log >&2
  die "apt-get failed (above); install by hand: apt-get install -y $*"
}

if command -v dpkg-query >/dev/null; then
  mapfile -t missing < <(missing_packages)
  if [ "${#missing[@]}" -gt 0 ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
      install_system_packages "${missing[@]}"
    else
      die "system packages are missing; run: sudo apt-get install -y ${missing[*]}"
    fi
  fi
elif ! { command -v g++ && command -v cmake; } >/dev/null; then
  die "install a C++17 compiler, CMake >= 3.22, Ninja, oneDNN, OpenBLAS (OpenMP build) and Highway with their headers."
fi

if ! node scripts/packages-current.mjs; then
  say "installing npm packages"
  npm ci --no-audit --no-fund --loglevel=error >&2
fi

node scripts/build-native.mjs >&2
npx --no-install tsc -p tsconfig.build.json >&2
