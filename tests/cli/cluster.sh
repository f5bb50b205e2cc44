#!/usr/bin/env bash
# Several processes on one folder: every job once, dead ones' jobs taken over, living ones' left alone.
. "$(dirname "$0")/common.sh" "$@"
# In the background the program is called by itself: a function's process would be the one that is killed.
batch() {
    "$PROGRAM" batch "$@"
}
cat >jobs.json <<END
{"version": 1, "defaults": {"model": "$MODEL", "steps": 6, "prompt": "$PROMPT"}, "jobs": [{"name": "a"}],
 "matrix": {"seed": [1, 2, 3, 4, 5, 6]}}
END
names() {
    sed 's/^{"name":"\([^"]*\)".*/\1/' "$1/manifest.jsonl" | sort | tr '\n' ' '
}
all="a-seed-1 a-seed-2 a-seed-3 a-seed-4 a-seed-5 a-seed-6 "
clean() { # DIR: six clips and the manifest
    [ "$(ls -A "$1" | wc -l)" -eq 7 ]
}

# Two at once share the work.
"$PROGRAM" batch jobs.json --out both >one.txt 2>&1 &
one=$!
batch jobs.json --out both >two.txt 2>&1
check "the second process" [ $? -eq 0 ]
wait $one
check "the first process" [ $? -eq 0 ]
check "each job is rendered once" [ "$(cat one.txt two.txt | grep -c sha256:)" -eq 6 ]
check "each has a line" [ "$(names both)" = "$all" ]
check "nothing else is left" clean both

# A killed process of this machine: its job is taken over at once, from its state.
"$PROGRAM" batch jobs.json --out killed --save-every 1 --progress json 2>progress.txt >/dev/null &
pid=$!
until grep -qa '"job":"a-seed-3","stage":"denoise","done":3' progress.txt || ! kill -0 $pid; do sleep 0.02; done
kill -KILL $pid
wait $pid 2>/dev/null
check "its claim is there" [ "$(ls killed/.claims)" = a-seed-3 ]
batch jobs.json --out killed --progress json --stale 3600 >out.txt 2>progress.txt
check "goes on" [ $? -eq 0 ]
check "where it was" grep -q '^6 jobs: 4 rendered, 2 finished before, 0 failed' out.txt
check "in the midst of a job" [ "$(grep -m1 -o '"job":"a-seed-3","stage":"denoise","done":[1-9]' progress.txt | grep -o '.$')" -gt 2 ]
check "the same files" diff -r -x manifest.jsonl both killed
check "each has one line" [ "$(names killed)" = "$all" ]
check "nothing else is left" clean killed

# Stopped: code 130, the claim is let go of.
"$PROGRAM" batch jobs.json --out stopped --progress json 2>progress.txt >out.txt &
pid=$!
until grep -qa '"job":"a-seed-2","stage":"denoise","done":2' progress.txt || ! kill -0 $pid; do sleep 0.02; done
kill -TERM $pid
wait $pid
check "stopped" [ $? -eq 130 ]
check "says so" grep -q 'batch: interrupted; the same command goes on$' progress.txt
check "holds no claim" [ ! -e stopped/.claims ]
check "goes on" batch jobs.json --out stopped >/dev/null
check "the same files" diff -r -x manifest.jsonl both stopped
check "nothing else is left" clean stopped

# Claims of processes elsewhere: silent ones are taken over, touched ones left alone, an empty one is silent.
mkdir -p far/.claims
printf '00000000-0000-0000-0000-000000000000 pid:[1] 77 77 0123456789abcdef elsewhere%150s\n' >far/.claims/a-seed-1
cp far/.claims/a-seed-1 far/.claims/a-seed-2
touch far/.claims/a-seed-3
while [ -e far/.claims/a-seed-2 ]; do
    touch -c far/.claims/a-seed-2
    sleep 0.05
done &
toucher=$!
batch jobs.json --out far --stale 1.5 >out.txt 2>err.txt
check "elsewhere" [ $? -eq 0 ]
check "waits" grep -q '^vidilate: waiting, 1.5 s at most' err.txt
check "leaves what lives" grep -q '^6 jobs: 5 rendered, 0 finished before, 0 failed, 1 left to other processes' out.txt
check "its claim too" [ "$(ls far/.claims)" = a-seed-2 ]
rm far/.claims/a-seed-2
wait $toucher
batch jobs.json --out far >/dev/null
check "then that one" clean far

# What Slurm and Kubernetes say of themselves.
listed() {
    env "$@" "$PROGRAM" batch jobs.json --jobs-list | tr '\n' ' '
}
check "Slurm" [ "$(listed SLURM_ARRAY_TASK_ID=12 SLURM_ARRAY_TASK_MIN=10 SLURM_ARRAY_TASK_STEP=2 SLURM_ARRAY_TASK_COUNT=3)" = "a-seed-2 a-seed-5 " ]
check "Kubernetes" [ "$(listed JOB_COMPLETION_INDEX=2 VIDILATE_SHARDS=3)" = "a-seed-3 a-seed-6 " ]
check "Kubernetes without a number" [ "$(listed JOB_COMPLETION_INDEX=2)" = "$all" ]
check "--shard goes before" [ "$(env JOB_COMPLETION_INDEX=2 VIDILATE_SHARDS=3 "$PROGRAM" batch jobs.json --jobs-list --shard 1/6)" = a-seed-2 ]
expect 2 "SLURM_ARRAY_TASK_ID=x is not a whole number from 0 on" env SLURM_ARRAY_TASK_ID=x "$PROGRAM" batch jobs.json --out z
# All parts together are all jobs, each once: arrays that begin anywhere, the Job that ships.
array() { # LOW HIGH STEP
    local id
    for ((id = $1; id <= $2; id += $3)); do
        listed SLURM_ARRAY_TASK_ID=$id SLURM_ARRAY_TASK_MIN=$1 SLURM_ARRAY_TASK_MAX=$2 SLURM_ARRAY_TASK_STEP=$3 \
            SLURM_ARRAY_TASK_COUNT=$((($2 - $1) / $3 + 1))
    done | tr ' ' '\n' | sort | tr '\n' ' '
}
check "--array=0-3" [ "$(array 0 3 1)" = "$all" ]
check "--array=1-5" [ "$(array 1 5 1)" = "$all" ]
check "--array=10-14:2" [ "$(array 10 14 2)" = "$all" ]
completions=$(sed -n 's/^  completions: //p' "$SOURCE/configs/k8s/job.yaml")
pods=$(sed -n '/name: VIDILATE_SHARDS/{n;s/.*value: "\(.*\)"/\1/p}' "$SOURCE/configs/k8s/job.yaml")
check "the Job says its number of pods twice" [ "$completions" -eq "$pods" ]
check "the Job's pods" [ "$(for ((i = 0; i < completions; i++)); do
    listed JOB_COMPLETION_INDEX=$i "VIDILATE_SHARDS=$pods"
done | tr ' ' '\n' | sort | tr '\n' ' ')" = "$all" ]
# Where a process cannot know its part, claims divide the jobs, and --force has nothing to go by.
gaps=(env SLURM_ARRAY_TASK_ID=7 SLURM_ARRAY_TASK_MIN=1 SLURM_ARRAY_TASK_MAX=7 SLURM_ARRAY_TASK_STEP=1 SLURM_ARRAY_TASK_COUNT=3)
check "--array=1,3,7" [ "$(listed "${gaps[@]:1}")" = "$all" ]
check "too few pods told" [ "$(listed JOB_COMPLETION_INDEX=3 VIDILATE_SHARDS=3)" = "$all" ]
expect 2 "do not know their parts" "${gaps[@]}" "$PROGRAM" batch jobs.json --out z --force
# A shard whose fellows never come does their jobs too.
JOB_COMPLETION_INDEX=1 VIDILATE_SHARDS=3 batch jobs.json --out alone >out.txt
check "helps" [ "$(names alone)" = "$all" ]
check "its own first" [ "$(grep -o 'a-seed-[0-9]' out.txt | tr -d 'a-sed\n-')" = 251346 ]

# Kept latents: other files without denoising.
batch jobs.json --out kept --keep-latents --shard 0/3 >/dev/null
check "latents are kept" [ "$(ls kept | grep -c latents.safetensors)" -eq 2 ]
batch jobs.json --out kept --re-encode --crf 40 --shard 0/3 >out.txt
check "files are made again" grep -q '^2 jobs: 2 rendered' out.txt
check "of the same frames" [ "$(grep -o 'sha256":"[0-9a-f]*' kept/manifest.jsonl | sort | head -1)" = \
    "$(grep 'a-seed-[14]"' both/manifest.jsonl | grep -o 'sha256":"[0-9a-f]*' | sort | head -1)" ]
check "smaller ones" [ "$(stat -c %s kept/a-seed-1.mp4)" -lt "$(stat -c %s both/a-seed-1.mp4)" ]
finish
