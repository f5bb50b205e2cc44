#!/usr/bin/env bash
# What a person can get wrong on the command line, and where the output goes: one line, the right code.
. "$(dirname "$0")/common.sh" "$@"
render() {
    "$PROGRAM" render --model "$MODEL" --steps 2 "$@"
}
ok=(--prompt "$PROMPT" -o x.mp4)

expect 2 "no prompt" render -o x.mp4
expect 2 "no output" render --prompt "$PROMPT"
expect 2 "did you mean --prompt" render --promt x -o x.mp4
expect 2 "unknown option" render --zzzzzzzzzz x
expect 2 "wants a value" render --prompt
expect 2 "unexpected argument" render "${ok[@]}" stray
expect 2 "did you mean render" "$PROGRAM" rendr
for option in width height frames steps; do
    for value in 0 -1 1000000000 99999999999999999999 nan 1e3 "" 12x; do
        expect 2 "$option" render "${ok[@]}" "--$option" "$value"
    done
done
for option in fps guidance eta crf scale guidance-rescale; do
    for value in nan inf -inf -1 1e9 "" 1,5 0x; do
        expect 2 "$option" render "${ok[@]}" "--$option" "$value"
    done
done
expect 2 "--seed" render "${ok[@]}" --seed -1
expect 2 "--seed" render "${ok[@]}" --seed 1.5
expect 2 "--seed" render "${ok[@]}" --seed 18446744073709551616
expect 2 "--threads" render "${ok[@]}" --threads -1
expect 2 "--threads" render "${ok[@]}" --threads 1000000000
expect 2 "multiples of 4; the nearest are 64 and 68" render "${ok[@]}" --width 65
expect 2 "not both" render "${ok[@]}" --scale 2 --width 64
expect 2 "must be one of" render "${ok[@]}" --scheduler dimm
expect 2 "must be one of" render "${ok[@]}" --dtype f8
expect 2 "must be one of" render "${ok[@]}" --method magic
expect 5 "CUDA" render "${ok[@]}" --backend cuda
expect 5 "f16" render "${ok[@]}" --dtype f16
expect 2 "UTF-8" render --prompt $'\xff\xfe red' -o x.mp4
expect 2 "UTF-8" render --prompt "$PROMPT" --negative-prompt $'\xc0\xaf' -o x.mp4
expect 3 "nowhere.txt" render --prompt @nowhere.txt -o x.mp4
printf 'a\0b' >nul.txt
expect 2 "NUL" render --prompt @nul.txt -o x.mp4

expect 2 "no_such_codec" render "${ok[@]}" --codec no_such_codec
expect 2 "no_such_format" render "${ok[@]}" --pix-fmt no_such_format
expect 2 "name the output .mkv" render "${ok[@]}" --codec ffv1
for name in - x x.gif x.avi 'x%s.png' 'x%d%d.png' 'x%n.png' .png ''; do
    expect 2 "" render --prompt "$PROMPT" -o "$name"
done
mkdir folder.mp4
expect 6 "folder.mp4" render --prompt "$PROMPT" -o folder.mp4
expect 6 "no/such" render --prompt "$PROMPT" -o no/such/x.mp4
if [ "$(id -u)" -ne 0 ]; then
    mkdir locked && chmod a-w locked
    expect 6 "locked" render --prompt "$PROMPT" -o locked/x.mp4
fi
expect 6 "/proc/" render --prompt "$PROMPT" -o /proc/x.mp4

# A full disk: every write beyond the limit fails, as on a disk without room.
full_disk() {
    (ulimit -f 1 && exec "$PROGRAM" render --model "$MODEL" --steps 1 --guidance 1 --codec ffv1 \
        --prompt "$PROMPT" -o x.mkv)
}
expect 6 "x.mkv" full_disk

# Less memory than the program needs.
little_memory() {
    (ulimit -v 300000 && exec "$PROGRAM" render --model "$MODEL" --steps 1 --threads 1 --scale 64 \
        --prompt "$PROMPT" -o hash:)
}
# Not under AddressSanitizer, which reserves more than that before main.
if ! grep -q __asan_init "$PROGRAM"; then
    expect 4 "memory" little_memory
    # What no machine has: planned, and refused before anything is computed.
    expect 4 "memory" render --prompt "$PROMPT" -o hash: --width 16384 --height 16384 --frames 1024
fi

# Over-long prompts are cut, with a warning that quotes the rest; empty prompts are drawn.
long="$PROMPT $PROMPT and a dog called waldo"
check "a long prompt renders" render --prompt "$long" -o hash: >out.txt 2>err.txt
check "the warning quotes what was dropped" grep -q "dropped: .*waldo" err.txt
check "an empty prompt renders" render --prompt "" -o null: >out.txt 2>err.txt
finish
