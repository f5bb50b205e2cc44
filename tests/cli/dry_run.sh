#!/usr/bin/env bash
# --dry-run: what it says, that it leaves nothing behind, and refusals of what cannot fit (exit codes 4 and 6).
. "$(dirname "$0")/common.sh" "$@"
render() {
    "$PROGRAM" render --model "$MODEL" --prompt "$PROMPT" --progress none "$@"
}
value() { # FILE KEY: the first of that name
    grep -m1 -o "\"$2\":[[:space:]]*[^,}]*" "$1" | sed 's/.*:[[:space:]]*//; s/"//g'
}

mkdir out
check "a dry run" render --steps 10 --scale 2 -o out/x.mp4 --dry-run >out.txt
for words in '^size  *128x128 pixels, 32x32 latents of 4' '^frames  *8 at 8 fps' \
    '^steps  *10: 10 calls of the network, 20 forwards' '^method  *auto: ' '^device  *[a-zA-Z]' \
    '^memory  *[0-9.]* [MG]B at the most, in .*; [0-9.]* [MG]B can be had' \
    '^time  *[0-9.]* .* a call, .* a frame' '^disk  *[0-9.]* [kM]B at most, .* free'; do
    check "says $words" grep -q "$words" out.txt
done
check "and writes nothing" [ -z "$(ls -A out)" ]
check "as JSON" render --steps 10 --scale 2 -o out/x.mp4 --dry-run --json --save-latents out/l.st >out.json
check "the size" [ "$(value out.json width) $(value out.json latent_height) $(value out.json steps)" = "128 32 10" ]
check "the latents: 4 channels, 8 frames, 32x32" [ "$(value out.json latents_bytes)" -ge $((4 * 8 * 32 * 32 * 4)) ]
check "still nothing" [ -z "$(ls -A out)" ]
check "of several seeds it tries one" [ "$(render --steps 1 --dry-run --repeat 3 | grep -c '^clips  *3, each\|^memory')" -eq 2 ]
check "needs no output" grep -q '^disk  *nothing is written' <(render --steps 1 --dry-run)

# Calls and forwards: the small render's and the damped network's count, what it stands in for does not.
count() {
    render --steps 10 --scale 2 --dry-run --json -o hash: "$@" >out.json
    echo "$(value out.json calls) $(value out.json forwards)"
}
check "one branch" [ "$(count --guidance 1)" = "10 10" ]
check "a third forward in steps of ndcfg" [ "$(count --method ndcfg | sed 's/.* //')" -gt 20 ]
check "low-res" [ "$(count --method low-res --guidance 1 | sed 's/ .*//')" -gt 10 ]
check "PNDM begins with nine more" [ "$(count --scheduler pndm --guidance 1)" = "19 19" ]

# A render that is finished, or would replace another, says so.
check "a render" render --steps 1 -o out/x.mp4 >/dev/null
check "is finished" grep -q 'finished already' <(render --steps 1 -o out/x.mp4 --dry-run)
expect 6 "out/x.mp4" render --steps 2 -o out/x.mp4 --dry-run
check "latents that are there are decoded only" render --steps 1 -o out/y.mp4 --save-latents out/l.st >/dev/null
check "no call" [ "$(render -o out/z.mp4 --latents out/l.st --decode-only --dry-run --json | grep -c '"calls":[[:space:]]*0')" -eq 1 ]
rm -rf out

# Too large for any machine; the real render is refused too, before its first step, and leaves nothing.
for dry in --dry-run --progress=none; do
    expect 4 "16384x16384, 1024 frames, would take" render --width 16384 --height 16384 --frames 1024 -o hash: $dry
    expect 4 "a smaller size" render --width 16384 --height 16384 --frames 1024 -o hash: $dry
done
printf '{"version": 1, "defaults": {"model": "%s", "prompt": "x", "steps": 3}, "jobs": [{"name": "small"},
 {"name": "large", "width": 8192, "height": 8192, "frames": 64, "crf": 51}]}' "$MODEL" >large.json
expect 4 "8192x8192, 64 frames, would take" "$PROGRAM" batch large.json --out o --dry-run
check "a check of the file is no plan" "$PROGRAM" batch large.json --out o --check >/dev/null

# Batch: each kind of job is tried once, and counted as often as it is there.
printf '{"version": 1, "defaults": {"model": "%s", "prompt": "x", "steps": 3}, "jobs": [{"name": "a"}, {"name": "b", "scale": 1.5}],
 "matrix": {"seed": [1, 2], "guidance": [3, 5]}}' "$MODEL" >jobs.json
check "a dry run" "$PROGRAM" batch jobs.json --out o --dry-run >out.txt
check "lists the jobs" [ "$(grep -c '^o/.*, seed [12]$' out.txt)" -eq 8 ]
check "a line a kind" [ "$(grep -c '^ *4  \(64x64\|96x96\) .* 8 *3  auto' out.txt)" -eq 2 ]
check "and all" grep -q '^8 jobs, 0 finished; about .*; memory .* at the most; disk .* at most, .* free$' out.txt
check "nothing is made" [ ! -e o ]
check "a job" "$PROGRAM" batch jobs.json --out o --shard 1/8 >/dev/null
check "as JSON" "$PROGRAM" batch jobs.json --out o --dry-run --json >out.json
check "which is finished then" [ "$(value out.json jobs) $(value out.json finished)" = "8 1" ]
check "and no more counted" [ "$(grep -o '"jobs":[[:space:]]*[0-9]*' out.json | tail -n 2 | tr -d -c '0-9\n' | tr '\n' ' ')" = "3 4 " ]
expect 2 "--json goes with --dry-run" "$PROGRAM" batch jobs.json --out o --json
rm -r o

# A disk that is too small, and leaves no byte behind.
if [ "$(id -u)" -eq 0 ] && mkdir disk && mount -t tmpfs -o size=64k tmpfs disk 2>/dev/null; then
    expect 6 "disk/x.mp4: up to" render --scale 2 -o disk/x.mp4 --dry-run
    expect 6 "its disk has 66 kB free: make room" render --scale 2 -o disk/x.mp4 --dry-run
    expect 6 "disk/o/: up to" "$PROGRAM" batch jobs.json --out disk/o --dry-run
    check "nothing is there" [ -z "$(ls -A disk)" ]
    umount disk
else
    echo "SKIPPED: a small disk needs root and tmpfs"
fi
finish
