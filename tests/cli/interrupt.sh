#!/usr/bin/env bash
# Ctrl-C and SIGTERM, at several moments: exit code 130, one line, nothing left behind but the state to go on from.
. "$(dirname "$0")/common.sh" "$@"
for signal in INT TERM; do
    for delay in 0.05 0.4 1; do
        checks=$((checks + 1))
        # Job control off would make a background process ignore SIGINT: start it from a shell that
        # gives the default back.
        env --default-signal=INT "$PROGRAM" render --model "$MODEL" --prompt "$PROMPT" --steps 900 \
            --scale 2 -o x.mp4 >out.txt 2>err.txt &
        pid=$!
        sleep "$delay"
        kill -"$signal" $pid
        wait $pid
        status=$?
        # A signal before the handlers stand ends the process as usual; a busy machine takes long to get there.
        [ "$status" -eq 130 ] || { [ "$delay" != 1 ] && [ "$status" -gt 128 ]; } ||
            fail "$signal after $delay s: exit code $status: $(cat err.txt)"
        [ "$status" -ne 130 ] || [ ! -s err.txt ] || [ "$(wc -l <err.txt)" -eq 1 ] ||
            fail "$signal after $delay s: $(cat err.txt)"
        rm -f out.txt err.txt .x.mp4.state
        [ -z "$(ls -A)" ] || fail "$signal after $delay s leaves $(ls -A)"
    done
done
# SIGTERM again and again does not keep what the first began from its end.
"$PROGRAM" render --model "$MODEL" --prompt "$PROMPT" --steps 900 --scale 2 --save-every 1 -o x.mp4 >out.txt 2>err.txt &
pid=$!
until [ -e .x.mp4.state ] || ! kill -0 $pid; do sleep 0.02; done
for ((i = 0; i < 1000; i++)); do
    kill -TERM $pid || break
done 2>kill.txt
wait $pid
check "many SIGTERMs" [ $? -eq 130 ]
check "say one thing" [ "$(cat err.txt)" = "vidilate: interrupted; the same command goes on from .x.mp4.state" ]
finish
