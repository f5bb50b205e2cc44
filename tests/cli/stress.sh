#!/usr/bin/env bash
# A batch killed by SIGKILL at random moments and started again each time: the files of an unbroken run, nothing
# left behind. Usage: stress.sh PROGRAM SOURCE GOLDEN [JOBS [KILLS [SEED [STEPS]]]]; 200 50 is the whole of it.
jobs=${4:-10}
kills=${5:-8}
seed=${6:-1}
steps=${7:-4}
. "$(dirname "$0")/common.sh" "$1" "$2" "$3"
RANDOM=$seed
cat >jobs.json <<END
{"version": 1, "defaults": {"model": "$MODEL", "steps": $steps}, "jobs": [{"name": "circle", "prompt": "$PROMPT"},
  {"name": "ring", "prompt": "a blue ring moving up on a black background", "scheduler": "dpmpp2m"}],
 "matrix": {"seed": [$(seq -s, 1 $((jobs / 2)))]}}
END
command=("$PROGRAM" batch jobs.json --save-every 1)
check "an unbroken run" "${command[@]}" --out whole --progress json >whole.txt 2>events.txt
tail -1 whole.txt
events=$(wc -l <events.txt)

# Each kill comes after a random number of progress lines, of which there are about 0.9 times an unbroken run's in
# all, and then a random part of 40 ms: so it does not matter how fast the machine is, and files are hit while they
# are encoded, recorded and claimed. One in eight comes while the program starts.
struck=0
mkfifo progress
for ((i = 0; i < kills; i++)); do
    "${command[@]}" --out broken --progress json >>broken.txt 2>progress &
    pid=$!
    exec 3<progress
    wanted=$((RANDOM % 8 == 0 ? 0 : 1 + RANDOM % (18 * events / kills / 10)))
    for ((k = 0; k < wanted; k++)); do
        read -r -u 3 line || break
        case $line in '{"jobs_done":'*'}') ;; *) echo "$line" >>err.txt ;; esac
    done
    sleep "$(printf '0.%03d' $((RANDOM % (wanted == 0 ? 300 : 40))))"
    kill -KILL $pid 2>/dev/null
    wait $pid 2>/dev/null
    [ $? -eq 137 ] && struck=$((struck + 1))
    exec 3<&-
done
echo "$struck of $kills kills struck a running batch; $(wc -l <broken.txt) lines of jobs under fire"
check "kills strike" [ $struck -ge $((kills * 2 / 3)) ]
check "the last run" "${command[@]}" --out broken --progress none >last.txt 2>>err.txt
tail -1 last.txt
check "all files are there" [ "$(ls broken/*.mp4 | wc -l)" -eq "$jobs" ]
check "the same bytes as the unbroken run's" diff -r -x manifest.jsonl whole broken
check "nothing else is left" [ "$(ls -A broken | wc -l)" -eq $((jobs + 1)) ]
digests() {
    sed 's/^{"name":"\([^"]*\)".*"frames-sha256":"\([^"]*\)".*/\1 \2/' "$1/manifest.jsonl" | sort
}
check "one line each, with the same digests" diff <(digests whole) <(digests broken)
check "no complaints" [ ! -s err.txt ]
finish
