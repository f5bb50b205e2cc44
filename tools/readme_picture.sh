#!/usr/bin/env bash
# Draws docs/shapes.png, the README's picture: a clip a row, its eight frames side by side.
# Usage: tools/readme_picture.sh [PROGRAM]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
program=${1:-build/vidilate}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

row=0
while read -r seed prompt; do
    "$program" render --force --prompt "$prompt" --seed "$seed" -o "$work/f%02d.png"
    ffmpeg -nostdin -v error -y -i "$work/f%02d.png" \
        -vf "scale=96:96:flags=neighbor,tile=8x1:margin=2:padding=4:color=0x808080" \
        -frames:v 1 "$work/row$row.png"
    row=$((row + 1))
done <<'PROMPTS'
1 a red circle moving right on a white background
2 a blue square growing on a black background
3 a yellow triangle moving up on a gray background
4 a purple ring moving left on a white background
PROMPTS
mkdir -p docs
ffmpeg -nostdin -v error -y -i "$work/row%d.png" -vf "tile=1x$row" -frames:v 1 docs/shapes.png
echo "docs/shapes.png"
