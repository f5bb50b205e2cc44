#!/usr/bin/env bash
# The command of the Kubernetes Job that ships, as its pods run it: process 1 of a process namespace, its part in the
# environment. One pod is killed, one evicted, both come again: the clips of an unbroken run, each rendered once.
. "$(dirname "$0")/common.sh" "$@"
pod=(unshare --pid --fork --kill-child --mount-proc)
"${pod[@]}" true 2>/dev/null || pod+=(--user --map-root-user)
"${pod[@]}" true 2>/dev/null || {
    echo "SKIPPED: no process namespace can be made here"
    exit 77
}
mkdir jobs clips logs
cat >jobs/jobs.json <<END
{"version": 1, "defaults": {"model": "$MODEL", "steps": 8, "prompt": "$PROMPT"}, "jobs": [{"name": "a"}],
 "matrix": {"seed": [1, 2, 3, 4, 5, 6]}}
END
check "an unbroken run" "$PROGRAM" batch jobs/jobs.json --out whole >/dev/null

# [vidilate, batch, /jobs/jobs.json, ...] of the file, with this folder for the pod's volumes.
read -ra command < <(sed -n 's/^ *command: \[\(.*\)\]/\1/p' "$SOURCE/configs/k8s/job.yaml" |
    sed "s/vidilate/\$PROGRAM/; s/, / /g; s/ \// /g; s/\$(THREADS)/1/")
check "the command is found" [ "${command[*]:0:3}" = '$PROGRAM batch jobs/jobs.json' ]
command=("$PROGRAM" "${command[@]:1}" --save-every 1 --stale 5 --progress json)
start() { # INDEX TURN: $! is unshare, whose child is the pod's process 1
    JOB_COMPLETION_INDEX=$1 VIDILATE_SHARDS=3 "${pod[@]}" "${command[@]}" >>logs/out 2>"logs/$1-$2" &
}
strike() { # INDEX SIGNAL: in the midst of its first job; the pod's end is in $status
    local child
    until grep -qas '"denoise","done":3' "logs/$1-1" || ! kill -0 "${parent[$1]}"; do sleep 0.02; done
    read -r child <"/proc/${parent[$1]}/task/${parent[$1]}/children"
    kill -"$2" "$child"
    wait "${parent[$1]}" 2>/dev/null
    status=$?
}
for i in 0 1 2; do
    start $i 1
    parent[i]=$!
done
strike 1 KILL
check "the killed pod's job is claimed still" [ -e clips/clips/.claims/a-seed-2 ]
strike 2 TERM
check "the evicted pod's code" [ $status -eq 130 ]
check "its job is free" [ ! -e clips/clips/.claims/a-seed-3 ]
for i in 1 2; do
    start $i 2
    parent[i]=$!
done
for i in 0 1 2; do
    wait "${parent[i]}"
    check "pod $i is done" [ $? -eq 0 ]
done
check "the same files as the unbroken run's" diff -r -x manifest.jsonl whole clips/clips
names=$(seq -f a-seed-%g 6)
check "nothing else is left" [ "$(ls -A clips/clips)" = "$(printf '%s.mp4\n' $names && echo manifest.jsonl)" ]
digests() {
    sed 's/^{"name":"\([^"]*\)".*"frames-sha256":"\([^"]*\)".*/\1 \2/' "$1/manifest.jsonl" | sort
}
check "one line each, with the same digests" diff <(digests whole) <(digests clips/clips)
check "each job was finished once" [ "$(grep -o '^clips/.* sha256:' logs/out | sort | cut -d. -f1)" = "$(printf 'clips/clips/%s\n' $names)" ]
[ $failures -eq 0 ] || tail -n 3 logs/*
finish
