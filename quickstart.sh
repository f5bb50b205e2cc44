#!/usr/bin/env bash
# Installs what the build needs, builds, renders a clip with the model that ships and says where it is.
# Usage: ./quickstart.sh ["a prompt"]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

prompt=${1:-a red circle moving right on a white background}

echo "== 1/3 packages"
tools/install_packages.sh build
echo "== 2/3 build (in build/)"
# A newer compiler may warn of more: that must not keep anybody from a clip.
cmake --preset release -G Ninja -DVD_TESTS=OFF -DVD_WERROR=OFF >/dev/null
cmake --build --preset release
echo "== 3/3 render: \"$prompt\""
mkdir -p out
build/vidilate render --prompt "$prompt" -o out/quickstart.mp4 --force
echo
echo "Your clip: $PWD/out/quickstart.mp4"
echo "Next:      build/vidilate render --prompt \"a blue square growing on a black background\" -o out/next.mp4"
