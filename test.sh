#!/usr/bin/env bash
# Installs what the tests need, builds, and runs all tests twice: the release build, then a build
# with AddressSanitizer and UndefinedBehaviorSanitizer.
# Usage: ./test.sh [release|sanitize]     one of the two alone
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

run() {
    echo "== $1: build (in $2/)"
    # Two architectures show that kernels compile; tools/gpu_check.sh builds for what is there.
    cmake --preset "$1" -G Ninja -DVD_TESTS=ON -DVD_WERROR=ON "-DVD_CUDA_ARCHITECTURES=75-real;90" >/dev/null
    cmake --build --preset "$1"
    echo "== $1: tests"
    ctest --test-dir "$2" --output-on-failure -j "$(nproc)" | tee "$2/tests.txt"
    tell_skipped "$2" >>"$skipped"
}

# How many of the tests that want a CUDA device did not run, and the reason that they gave.
tell_skipped() {
    local all skipped reason
    reason=$(sed -n 's/^skipped: //p' "$1/Testing/Temporary/LastTest.log" | grep -i -m 1 cuda) || true
    skipped=$(grep -c '\.cuda \.*\*\*\*Skipped' "$1/tests.txt") || true
    all=$(ctest --test-dir "$1" -N -L '^cuda$' | sed -n 's/^Total Tests: //p') # a new LastTest.log
    echo "CUDA ($1): $skipped of $all tests skipped${reason:+: $reason}"
}

case "${1:-all}" in
all | release | sanitize) ;;
*)
    echo "usage: ./test.sh [release|sanitize]" >&2
    exit 2
    ;;
esac
skipped=$(mktemp)
trap 'rm -f "$skipped"' EXIT
echo "== packages"
tools/install_packages.sh build test
if [ "${1:-all}" != sanitize ]; then
    run release build
fi
if [ "${1:-all}" != release ]; then
    # The leaks that are left out are named, with reasons, in the file.
    export LSAN_OPTIONS=suppressions=$PWD/tests/lsan.supp:print_suppressions=0
    run sanitize build-sanitize
fi
cat "$skipped"
