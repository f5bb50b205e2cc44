#!/usr/bin/env bash
# clang-format and clang-tidy over all C files, with the configurations in the repository.
# Usage: tools/lint.sh [FILE...]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [ $# -gt 0 ]; then
    files=("$@")
else
    mapfile -t files < <(git ls-files '*.c' '*.h')
fi
echo "== clang-format: ${#files[@]} files"
clang-format --dry-run --Werror "${files[@]}"

cmake --preset release -G Ninja -DVD_TESTS=ON >/dev/null
mapfile -t sources < <(printf '%s\n' "${files[@]}" | grep '\.c$')
echo "== clang-tidy: ${#sources[@]} files"
# One file a call: clang-tidy 14 reports false errors about va_list when it is given several.
# GCC's OpenMP flags and -march levels are in the compile commands and mean the same to clang.
# Without the CUDA toolkit its files cannot be checked.
if ! grep -q 'backend/cuda/' build/compile_commands.json; then
    mapfile -t sources < <(printf '%s\n' "${sources[@]}" | grep -v '^backend/cuda/\|^tests/cuda/')
    echo "no CUDA toolkit: left out backend/cuda and tests/cuda"
fi
printf '%s\0' "${sources[@]}" | xargs -0 -n 1 -P "$(nproc)" clang-tidy -p build --quiet 2>/dev/null
