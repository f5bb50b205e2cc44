#!/usr/bin/env bash
# Headless Chromium plays what the program renders.
. "$(dirname "$0")/common.sh" "$@"
if ! command -v chromium >/dev/null; then
    echo "SKIPPED: no chromium on this machine"
    exit 77
fi
"$PROGRAM" render --model "$MODEL" --prompt "$PROMPT" --steps 3 -o clip.mp4 >/dev/null || exit 1
check "Chromium plays the clip" "$SOURCE/tests/encode/play_in_chromium.sh" "$WORK/clip.mp4" 64 64
finish
