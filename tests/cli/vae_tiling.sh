#!/usr/bin/env bash
# How frames are decoded: exact is the whole decode but for rounding, auto chooses by size alone.
. "$(dirname "$0")/common.sh" "$@"
render() {
    "$PROGRAM" render --model "$MODEL" --prompt "$PROMPT" --steps 1 --width 72 --height 104 --frames 1 --dtype f32 \
        --latents noise.safetensors "$@"
}
digest() {
    render "$@" -o hash: 2>/dev/null | sed 's/.*sha256://'
}
raw() { # raw NAME: frames NAME0001.png.. as bytes in NAME.raw
    ffmpeg -v error -i "$1%04d.png" -f rawvideo -pix_fmt rgb24 "$1.raw"
}
"$PROGRAM" render --model "$MODEL" --prompt "$PROMPT" --steps 1 --width 72 --height 104 --frames 1 \
    --save-latents noise.safetensors -o null: >/dev/null

check "whole" render --vae-tiling off -o 'off%04d.png' >/dev/null
check "exact" render --vae-tiling exact --vae-memory 0.002 -o 'exact%04d.png' >/dev/null
raw off
raw exact
check "there are frames" [ "$(stat -c %s off.raw)" -eq $((72 * 104 * 3)) ]
# Where a value lies on the edge between two bytes, rounding may show.
check "exact is whole" [ "$(cmp -l off.raw exact.raw | wc -l)" -le 20 ]
bytes() {
    od -An -v -tu1 -w1 "$1"
}
check "by one at most" [ "$(paste <(bytes off.raw) <(bytes exact.raw) | awk '($1 - $2) ^ 2 > 1' | wc -l)" -eq 0 ]

off=$(digest --vae-tiling off)
check "auto with room is whole" [ "$(digest)" = "$off" ]
check "auto without room is exact" [ "$(digest --vae-memory 0.002)" = "$(digest --vae-tiling exact --vae-memory 0.002)" ]
plain=$(digest --vae-tiling plain)
check "plain tiles differ" [ "$plain" != "$off" ]
check "so do synchronised ones" [ "$(digest --vae-tiling sync)" != "$plain" ]
check "threads do not matter" [ "$(digest --vae-memory 0.002 --threads 1)" = "$(digest --vae-memory 0.002 --threads 3)" ]
render --vae-tiling plain -o clip.mkv --codec ffv1 >/dev/null
check "a clip knows its tiles" grep -qE '"vae-tiling":[[:space:]]*"plain"' <("$PROGRAM" inspect --json clip.mkv)
check "and is drawn with them again" \
    [ "$("$PROGRAM" render --model "$MODEL" --from clip.mkv --latents noise.safetensors -o hash: | sed 's/.*sha256://')" = "$plain" ]

expect 2 "vae-memory 0" render --vae-memory 0 -o x.mp4
expect 2 "vae-tiling" render --vae-tiling twice -o x.mp4
expect 2 "--vae-memory \"nan\" is not" render --vae-memory nan -o x.mp4
finish
