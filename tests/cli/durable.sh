#!/usr/bin/env bash
# Renders that are killed or stopped and started again: the frames of an unbroken run, nothing left behind.
. "$(dirname "$0")/common.sh" "$@"
render() {
    "$PROGRAM" render --model "$MODEL" --prompt "$PROMPT" --progress none "$@"
}
digest() {
    sed 's/.*sha256://'
}
# strike SIGNAL '"stage":"...","done":N' options...: the signal when this progress is told; the exit code is in
# $status. Whether it came in time is checked by what it leaves.
strike() {
    local signal=$1 moment=$2 pid
    shift 2
    rm -f progress
    mkfifo progress
    # env gives SIGINT back, which a shell's background process ignores.
    env --default-signal=INT "$PROGRAM" render --model "$MODEL" --prompt "$PROMPT" --progress json "$@" \
        2>progress >/dev/null &
    pid=$!
    while read -r line; do
        case $line in *"$moment"*) kill -"$signal" $pid ;; esac
        echo "$line" >last.txt
    done <progress
    wait $pid 2>/dev/null
    status=$?
    rm progress
}

# Every kind of sampler memory: fresh noise, histories, Runge-Kutta.
mkdir out
for sampler in "ddim --eta 1" dpmpp2m-karras unipc pndm; do
    options=(--scheduler $sampler --steps 12 --seed 5)
    unbroken=$(render "${options[@]}" -o hash: | digest)
    strike KILL '"denoise","done":4,' "${options[@]}" --save-every 3 -o out/x.mp4
    check "$sampler is killed" [ "$status" -eq 137 ]
    check "$sampler leaves its state alone" [ "$(ls -A out)" = .x.mp4.state ]
    render "${options[@]}" -o out/x.mp4 --progress json 2>err.txt | digest >digest.txt
    # On a busy machine the signal comes a few calls late: the state is that of call 3, 6 or 9.
    check "$sampler goes on with the call that was saved" grep -qE '^"denoise","done":(4|7|10)$' \
        <(grep -m1 -o '"denoise","done":[1-9][0-9]*' err.txt)
    check "$sampler draws the same frames" [ "$(cat digest.txt)" = "$unbroken" ]
    check "$sampler leaves the clip alone" [ "$(ls -A out)" = x.mp4 ]
    rm -f out/*
done
# Behind the small render that guides it, which is not made again.
options=(--steps 12 --seed 5 --scale 2 --method low-res)
unbroken=$(render "${options[@]}" -o hash: | digest)
strike KILL '"denoise","done":20,' "${options[@]}" --save-every 1 -o out/x.mp4
check "a guided render is killed" [ "$status" -eq 137 ]
render "${options[@]}" -o out/x.mp4 --progress json 2>err.txt | digest >digest.txt
check "a guided render draws the same frames" [ "$(cat digest.txt)" = "$unbroken" ]
check "the small render is left out" [ "$(grep -c '"stage":"denoise","done":[1-7],' err.txt)" -eq 0 ]
rm -f out/*
options=(--steps 12 --seed 5)
unbroken=$(render "${options[@]}" -o hash: | digest)

# Stopped politely: saved where it stands, in one line with code 130; at another place on each signal.
for signal in INT TERM; do
    strike $signal '"denoise","done":5,' "${options[@]}" --scale 2 -o out/x.mp4
    check "$signal" [ "$status" -eq 130 ]
    check "$signal says what to do" grep -q '^vidilate: interrupted; the same command goes on from out/.x.mp4.state$' last.txt
    rm -f out/.x.mp4.state
done

# During the decoding: the latents are there, and no network but the decoder runs again.
strike KILL '"decode","done":2,' "${options[@]}" -o out/x.mp4
check "killed while decoding" [ "$status" -eq 137 ]
render "${options[@]}" -o out/x.mp4 --progress json --save-latents end.st 2>err.txt | digest >digest.txt
check "the same frames" [ "$(cat digest.txt)" = "$unbroken" ]
check "decoded only" [ "$(grep -c '"stage":"denoise"\|"stage":"text"' err.txt)" -eq 0 ]
check "nothing is left, the killed encoder's file neither" [ "$(ls -A out)" = x.mp4 ]
check "the latents were saved all the same" [ -s end.st ]

# Killed at the end of the encoding, with the state still there: finished.
strike KILL '"denoise","done":12,' "${options[@]}" -o out/y.mp4
cp out/.y.mp4.state out/.x.mp4.state
check "a finished clip's state is dropped" grep -q 'finished already' <(render "${options[@]}" -o out/x.mp4)
check "only that" [ "$(ls -A out | tr '\n' ' ')" = ".y.mp4.state x.mp4 " ]

# State of another render, of another model, damaged, of another kind: a warning, and a new beginning.
for change in seed damage kind; do
    other=("${options[@]}")
    case $change in
    seed) other=(--steps 12 --seed 6) ;;
    damage) head -c 5000 out/.y.mp4.state >cut && cp cut out/.y.mp4.state ;;
    kind) cp end.st out/.y.mp4.state ;;
    esac
    render "${other[@]}" -o out/y.mp4 2>err.txt | digest >digest.txt
    check "$change: a warning" grep -q 'warning: out/.y.mp4.state: .*: this render begins anew' err.txt
    check "$change: the frames" [ "$(cat digest.txt)" = "$(render "${other[@]}" -o hash: | digest)" ]
    rm -f out/y.mp4
    strike KILL '"denoise","done":12,' "${options[@]}" -o out/y.mp4
done
rm -f out/.y* out/y*

# From saved latents: other codecs without denoising.
check "--decode-only" [ "$(render --decode-only --latents end.st --seed 9 --steps 1 -o hash: | digest)" = "$unbroken" ]
render --re-encode --latents end.st --crf 35 -o out/x.mp4 | digest >digest.txt
check "--re-encode: the same frames" [ "$(cat digest.txt)" = "$unbroken" ]
check "--re-encode: its settings" [ "$("$PROGRAM" inspect --json out/x.mp4 | tr -d ' \n\t' |
    grep -o '"steps":12\|"seed":"5"\|"crf":35\|"from-latents":false' | wc -l)" -eq 4 ]
check "replay from it renders again" [ "$("$PROGRAM" render --model "$MODEL" --from out/x.mp4 -o hash: | digest)" = "$unbroken" ]
expect 2 "--decode-only wants --latents" render --decode-only -o z.mp4
expect 2 "--re-encode wants --latents" render --re-encode -o z.mp4
expect 3 "z.mp4" render --re-encode --latents end.st -o z.mp4
expect 2 "save-every -1: must be from 0 to 1000" render --save-every -1 -o z.mp4
# A state that cannot be written is told once, and the clip comes all the same: a folder in its place, a full disk.
unsaved() { # FILE: the warnings
    check "the clip comes" [ -s "$1" ]
    check "the state is told of once" [ "$(grep -c "^vidilate: warning: out/.$(basename "$1").state: cannot.*it begins anew$" err.txt)" -eq 1 ]
}
mkdir -p out/.n.mp4.state/x
render --steps 4 --save-every 1 -o out/n.mp4 2>err.txt >/dev/null
unsaved out/n.mp4
rm -rf out/.n.mp4.state out/n.mp4
(ulimit -f 24 && exec "$PROGRAM" render --model "$MODEL" --prompt "$PROMPT" --steps 4 --save-every 1 --crf 40 -o out/n.mp4) 2>err.txt >/dev/null
unsaved out/n.mp4
check "and nothing else" [ "$(wc -l <err.txt) $(ls -A out | grep -c '^\.n')" = "1 0" ]
rm -f out/n.mp4
check "pictures too" render --steps 2 -o 'out/f%02d.png' >/dev/null
check "leave no state" [ "$(ls -A out | wc -l)" -eq 9 ]
finish
