#!/usr/bin/env bash
# vidilate batch: expansion, names, every error at once, results equal to render's, skipping, failures, picks.
. "$(dirname "$0")/common.sh" "$@"
batch() {
    "$PROGRAM" batch "$@"
}
field() { # FILE NAME KEY: of the job's line in a manifest
    grep "^{\"name\":\"$2\"" "$1" | grep -o "\"$3\":\"*[^\",}]*" | head -1 | sed 's/.*:"*//'
}

cat >jobs.json <<END
{"version": 1, "defaults": {"model": "$MODEL", "steps": 2, "prompt": "$PROMPT"},
 "jobs": [{"name": "plain"}, {"name": "ring", "prompt": "a blue ring", "scale": 1.5, "container": "png"}],
 "matrix": {"seed": [1, "18446744073709551615"], "guidance": [1, 7.5]}}
END
cat >names.txt <<'END'
plain-seed-1-guidance-1
plain-seed-1-guidance-7.5
plain-seed-18446744073709551615-guidance-1
plain-seed-18446744073709551615-guidance-7.5
ring-seed-1-guidance-1
ring-seed-1-guidance-7.5
ring-seed-18446744073709551615-guidance-1
ring-seed-18446744073709551615-guidance-7.5
END
check "the matrix is expanded in order" cmp names.txt <(batch jobs.json --jobs-list)
check "--check" batch jobs.json --out dry --check >out.txt
check "shows each job" [ "$(grep -c '^dry/.*: [0-9]*x[0-9]*, 8 frames, 2 steps' out.txt)" -eq 8 ]
check "and makes nothing" [ ! -e dry ]

check "all jobs are rendered" batch jobs.json --out all >out.txt
check "and counted" grep -q '^8 jobs: 8 rendered, 0 finished before, 0 failed' out.txt
check "and where the time went is told" [ "$(sed -n 's/^8 jobs: .* s: rendering \([0-9.]*\)%, loading \([0-9.]*\)%, encoding \([0-9.]*\)%$/\1 \2 \3/p' \
    out.txt | awk '$1 > 0 && $2 > 0 && $3 > 0 && $1 + $2 + $3 < 100.2 {print "sound"}')" = sound ]
check "a line each in the manifest" cmp names.txt <(sed 's/^{"name":"\([^"]*\)".*/\1/' all/manifest.jsonl)
check "the files, and nothing else" [ "$(ls -A all | wc -l)" -eq $((4 + 4 * 8 + 1)) ]
check "they play" [ "$(ffprobe -v error -count_frames -show_entries stream=nb_read_frames -of csv=p=0 \
    all/plain-seed-1-guidance-1.mp4)" = 8 ]
# The same frames as render's, whose process has no other jobs before it.
for job in plain-seed-18446744073709551615-guidance-7.5 ring-seed-1-guidance-1; do
    options=(--seed 18446744073709551615)
    [ "${job#ring}" = "$job" ] || options=(--seed 1 --guidance 1 --scale 1.5 --prompt "a blue ring")
    digest=$("$PROGRAM" render --model "$MODEL" --prompt "$PROMPT" --steps 2 "${options[@]}" -o hash: | sed 's/.*sha256://')
    check "$job is what render draws" [ "$digest" = "$(field all/manifest.jsonl $job frames-sha256)" ]
done
rm all/plain-seed-1-guidance-7.5.mp4 all/ring-seed-1-guidance-1-0008.png
cp all/manifest.jsonl before.jsonl
check "what is missing is rendered again" batch jobs.json --out all --progress json >out.txt 2>err.txt
check "and nothing else" grep -q '^8 jobs: 2 rendered, 6 finished before, 0 failed' out.txt
check "a line each still" [ "$(sed 's/^{"name":"\([^"]*\)".*/\1/' all/manifest.jsonl | sort | uniq | wc -l)" -eq "$(wc -l <all/manifest.jsonl)" ]
check "the same frames" [ "$(field all/manifest.jsonl plain-seed-1-guidance-7.5 frames-sha256)" = \
    "$(field before.jsonl plain-seed-1-guidance-7.5 frames-sha256)" ]
check "progress is JSON" [ "$(grep -c '^{"jobs_done":.*"jobs_total":8,.*"eta_s":.*}$' err.txt)" -eq "$(wc -l <err.txt)" ]
check "and sums up" grep -q '^{"jobs_done":8,"jobs_total":8,"rendered":2,"found":6,"failed":0,"left":0,"elapsed_s":.*,"render_s":[0-9.]*,"load_s":[0-9.]*,"encode_s":[0-9.]*,' <(tail -1 err.txt)
rm all/manifest.jsonl
check "a lost manifest" batch jobs.json --out all --shard 1/8 >out.txt
check "is written again from the file" [ "$(wc -l <all/manifest.jsonl)" -eq 1 ]
check "without a render" grep -q '^1 jobs: 0 rendered, 1 finished before' out.txt
printf '{"name":"half' >>all/manifest.jsonl
check "a half-written line" batch jobs.json --out all --shard 2/8 >/dev/null
check "is removed" [ "$(grep -c '}$' all/manifest.jsonl)" -eq "$(wc -l <all/manifest.jsonl)" ]

# Shards: each job in exactly one, counted from 0 or from 1.
for from in 0 1; do
    for i in 0 1 2; do
        batch jobs.json --out shards$from --shard $((i + from))/3 --check | sed 's/.*\/\(.*\): .*/\1/'
    done | sort >shards.txt
    check "shards from $from" [ "$(uniq shards.txt | wc -l) $(wc -l <shards.txt)" = "8 8" ]
done

# A failing job does not stop the rest; what was made with other settings is not replaced.
cat >two.json <<END
{"version": 1, "jobs": [{"name": "first", "prompt": "a ring", "steps": 1, "model": "$MODEL"},
                        {"name": "second", "prompt": "a ring", "steps": 1, "model": "$MODEL"}]}
END
mkdir some
cp all/plain-seed-1-guidance-1.mp4 some/first.mp4
batch two.json --out some >out.txt 2>err.txt
check "a failed job's code" [ $? -eq 6 ]
check "says why" grep -q '^vidilate: first: some/first.mp4: is there already, made with another prompt' err.txt
check "the list" grep -q 'batch: 1 of 2 jobs failed; see some/failed.jsonl' err.txt
check "the other one is there" [ -s some/second.mp4 ]
check "the failure is recorded" grep -q '^{"name":"first","error":".*","exit":6,' some/failed.jsonl
check "the old file stays" cmp -s some/first.mp4 all/plain-seed-1-guidance-1.mp4
check "--force replaces it" batch two.json --out some --force >out.txt
check "and the failure is forgotten" [ ! -e some/failed.jsonl ]

# Render itself.
render=("$PROGRAM" render --model "$MODEL" --prompt "a ring" --steps 1 -o some/first.mp4)
check "a finished clip is left alone" grep -q '^some/first.mp4: finished already' <("${render[@]}")
expect 6 "is there already, made with another seed" "${render[@]}" --seed 5
printf 'x' >other.mp4
expect 6 "is there already, and vidilate did not make it" "${render[@]}" -o other.mp4
check "--force" "${render[@]}" -o other.mp4 --force >/dev/null
check "is a clip now" [ "$(stat -c %s other.mp4)" -gt 1000 ]

# Picks, larger; entries from clips.
for verdict in pick reject; do
    cat <<END
{"file": "some/$verdict.mp4", "verdict": "$verdict", "rank": 2, "note": "good", "settings":
  $(grep -o '"settings":{.*}' some/manifest.jsonl | head -1 | sed 's/"settings"://; s/}}$/}/')},
END
done >entries.txt
printf '{"version":1,"picks":[%s]}' "$(cat entries.txt | tr '\n' ' ' | sed 's/, *$//')" >picks.json
check "picks" batch --from picks.json --model "$MODEL" --scale 2 --out big >out.txt
check "are rendered larger" grep -q '^big/pick.mp4: 128x128' out.txt
check "rejected ones are not" [ "$(ls big)" = "$(printf 'manifest.jsonl\npick.mp4')" ]
printf '{"jobs":[{"name":"again","from":"some/first.mp4","model":"%s"}]}' "$MODEL" >from.json
check "a job from a clip" batch from.json --out again >/dev/null
check "has its frames" [ "$(field again/manifest.jsonl again frames-sha256)" = "$(field some/manifest.jsonl first frames-sha256)" ]
printf '{"jobs":[{"name":"dilated","prompt":"a ring","steps":1,"settings":{"dilate":{"mid_block":2}},"model":"%s"}]}' "$MODEL" >inline.json
check "settings inside the job" batch inline.json --out again >/dev/null
check "are in the manifest" grep -q '"settings":{"dilate":{"mid_block":2}' again/manifest.jsonl

# Every error at once, with path, value and what is allowed.
cat >bad.json <<END
{"version": 1, "defaults": {"model": "$MODEL", "promt": "x", "prompt": "a ring"},
 "jobs": [{"name": "a/b"}, {"name": "b", "guidance": NaN, "width": 63}, {"name": "b", "scheduler": "dd"},
          {"name": "c", "crf": 99, "codec": "x264"}, {"name": "d", "steps": "many", "from": 3}, 7,
          {"name": "e", "seed": 36893488147419103232, "latents": "none.st"}, {"name": "f", "output": "x.mp4"}],
 "matrix": {"eta": [0, 2], "fps": []}}
END
batch bad.json --out bad 2>err.txt
check "wrong values and entries" [ $? -eq 3 ]
for line in '$.defaults.promt: unknown option; did you mean "prompt"?' '$.jobs[0].name: name "a/b": must be' \
    '$.jobs[1].guidance: --guidance "nan" is not a number' '$.jobs[1].width: width 63: this model draws in multiples of 4' \
    '$.jobs[2].scheduler: --scheduler "dd": must be one of ddim' '$.jobs[2]: the name "b-eta-0" is taken by $.jobs[1]' \
    '$.jobs[3].crf: crf 99: must be 0 to 51' '$.jobs[3].codec: ' '$.jobs[4].steps: --steps "many" is not a whole number' \
    '$.jobs[4].from: expected a text' '$.jobs[5]: expected an object' '$.jobs[6].seed: ' '$.jobs[7].output: batch decides' \
    '$.matrix.eta[1]: eta 2: must be from 0 to 1' '$.matrix.fps: expected a list' 'errors; nothing was rendered'; do
    check "told: $line" grep -qF "$line" err.txt
done
check "each once" [ "$(sort err.txt | uniq -d | wc -l)" -eq 0 ]
check "no folder" [ ! -e bad ]
printf '{"jobs":[{"name":"a","prompt":"x","steps":0,"model":"%s"}]}' "$MODEL" >one.json
expect 2 'one.json: $.jobs[0].steps: steps 0: must be from 1 to 1000' batch one.json --out none
expect 3 'one.json: $.jobs[0]: /nope: no such folder' batch one.json --out none --model /nope --steps 1
printf '{"jobs":[{"name":"a"' >cut.json
expect 3 "cut.json:" batch cut.json --out none
printf '{"version":1}' >empty.json
expect 3 "holds no jobs" batch empty.json --out none
expect 3 "nope.json" batch nope.json --out none
expect 2 "give --out DIR" batch jobs.json
expect 2 "must be I/N" batch jobs.json --out none --shard 4/3
expect 2 '--steps "x"' batch jobs.json --out none --steps x
expect 2 "give a job file" batch --out none
printf '{"jobs":[{"prompt":"x"}],"matrix":{"seed":[%s0],"steps":[%s0],"frames":[%s0]}}' \
    "$(seq -s, 1 60),0," "$(seq -s, 1 60)," "$(seq -s, 1 60)," >many.json
# What this machine has not: an error of the file that asks for it, of the device where the command does.
printf '{"jobs":[{"name":"a","prompt":"x","dtype":"f16","model":"%s"}]}' "$MODEL" >half.json
expect 3 'half.json: $.jobs[0].dtype: the cpu backend on this machine does not compute in f16' batch half.json --out none --backend cpu
expect 5 'does not compute in f16' batch one.json --out none --backend cpu --dtype f16 --steps 1
expect 2 "more than 100000 jobs" batch many.json --jobs-list
finish
