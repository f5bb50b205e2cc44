#!/usr/bin/env bash
# A job array on a real Slurm, by the script that ships: each of three tasks is struck in the midst of a job and put back
# into the queue, and the clips are those of an unbroken run, each rendered once.
. "$(dirname "$0")/common.sh" "$@"
. "$SOURCE/tests/cli/slurm_cluster.sh"
for program in munged slurmctld slurmd sbatch; do
    command -v $program >/dev/null || {
        echo "SKIPPED: no $program on this machine; tools/install_packages.sh test"
        exit 77
    }
done
trap 'cluster_stop; rm -rf "$WORK"' EXIT
cluster_start || exit 1

cat >jobs.json <<END
{"version": 1, "defaults": {"model": "$MODEL", "steps": 8, "prompt": "$PROMPT"}, "jobs": [{"name": "a"}],
 "matrix": {"seed": [1, 2, 3, 4, 5, 6, 7, 8, 9]}}
END
check "an unbroken run" "$PROGRAM" batch jobs.json --out whole >/dev/null

export VIDILATE=$PROGRAM
array=$(sbatch --parsable --array=2-6:2 --cpus-per-task=1 "$SOURCE/configs/slurm/vidilate.sbatch" \
    jobs.json --out clips --save-every 1 --progress json)
check "sbatch takes the script" [ -n "$array" ]
task_is() { # TASK WORD: what scontrol says of it
    scontrol show job "${array}_$1" | grep -qw "$2"
}

# The task's process stands still when this returns, its job's name is in $job and its id in $pid. Its job has begun, and has
# a saved state.
hold() {
    local claim i
    for ((i = 0; i < 3000; i++)); do
        for claim in clips/.claims/*; do
            read -r _ _ pid _ <"$claim" || continue
            grep -qz "^SLURM_ARRAY_TASK_ID=$1$" "/proc/$pid/environ" || continue
            job=${claim##*/}
            kill -STOP "$pid"
            [ -e "$claim" ] && [ -e "clips/.$job.mp4.state" ] && return
            kill -CONT "$pid"
        done 2>/dev/null
        sleep 0.02
    done
    fail "task $1 renders nothing"
    return 1
}
hold 2 && killed=$pid && hold 4 && warned=$pid && hold 6 || {
    cat ./*.log
    finish
}
# What Slurm does at the end of the time: the step's processes are told, the script puts the task back.
scancel --signal=TERM "${array}_4"
kill -CONT "$warned"
# Preempted.
scontrol requeue "${array}_6"
# Out of memory, say: the task has failed, and somebody puts it back.
kill -KILL "$killed"
until_within 60 "scontrol show job ${array}_2 | grep -q JobState=FAILED"
check "the killed task has failed" task_is 2 ExitCode=137:0
check "its claim is there" [ "$(ls clips/.claims)" = "$(cd clips/.claims && grep -l " $killed " -- *)" ]
scontrol requeue "${array}_2"
until_within 600 '[ -z "$(squeue -h)" ]'
for task in 2 4 6; do
    check "task $task was put back once" task_is $task Restarts=1
    check "and is done" task_is $task JobState=COMPLETED
done
names=$(seq -f a-seed-%g 9)
check "the same files as the unbroken run's" diff -r -x manifest.jsonl whole clips
check "nothing else is left" [ "$(ls -A clips)" = "$(printf '%s.mp4\n' $names && echo manifest.jsonl)" ]
digests() {
    sed 's/^{"name":"\([^"]*\)".*"frames-sha256":"\([^"]*\)".*/\1 \2/' "$1/manifest.jsonl" | sort
}
check "one line each, with the same digests" diff <(digests whole) <(digests clips)
check "each job was finished once" [ "$(grep -ho '^clips/.* sha256:' ./*.log | sort | cut -d. -f1)" = \
    "$(printf 'clips/%s\n' $names)" ]
first_steps() {
    grep -ho '"job":"[^"]*","stage":"denoise","done":1,' ./*.log | sort | cut -d'"' -f4
}
check "its first step too: the rest was gone on with" [ "$(first_steps)" = "$names" ]
[ $failures -eq 0 ] || tail -n 5 ./*.log cluster/*.log
finish
