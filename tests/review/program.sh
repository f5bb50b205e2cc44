#!/usr/bin/env bash
# vidilate review from outside: what it writes, what it says, what it refuses.
# Usage: program.sh PROGRAM SOURCE_DIR MAKE_CLIPS
. "$(dirname "$0")/../cli/common.sh" "$@"
MAKE_CLIPS=$3
review() {
    "$PROGRAM" review "$@"
}

"$MAKE_CLIPS" clips || exit 1
head -c 1500 clips/ring-direct-1.mp4 >clips/broken.mp4
head -c -700 clips/lossless.mkv >clips/short.mkv
echo hello >clips/notes.txt
touch clips/manifest.jsonl clips/.hidden.mp4
mkdir clips/below empty strange folder.html
echo hello >strange/notes.txt

check "--help" grep -q "^Usage: vidilate review" <(review --help)
expect 2 "give the folder" review
expect 2 "unexpected argument" review clips empty
expect 2 "must be one of auto, always, never" review clips --embed maybe
for name in - x x.mp4 ''; do
    expect 2 ".html" review clips -o "$name"
done
expect 2 "not both" review clips --sheet 's%d.png' --no-sheet
expect 2 "PNG" review clips --sheet s.mp4
expect 3 "nowhere: No such file" review nowhere
expect 3 "notes.txt: Not a directory" review clips/notes.txt
expect 3 "empty: holds no clips" review empty
expect 3 "none of its files is a clip: notes.txt: is no MP4" review strange
expect 6 "no/such" review clips -o no/such/x.html
expect 6 "is a folder" review clips -o folder.html
expect 6 "no/such" review clips -o x.html --sheet 'no/such/%d.png'

check "a page and sheets" review clips >out.txt 2>err.txt
check "it says what" grep -qE '^clips/review.html: 13 clips, [0-9.]+ MB, all in this one file$' out.txt
check "and where the sheet is" grep -q '^clips/review-sheet-1.png: contact sheet$' out.txt
check "each file left out has its reason" [ "$(wc -l <err.txt)" -eq 3 ]
check "damaged" grep -q "left out clips/broken.mp4: is damaged at frame 0" err.txt
check "cut short" grep -q "left out clips/short.mkv: is damaged: holds . of 8 frames" err.txt
check "no clip" grep -q "left out clips/notes.txt: is no MP4" err.txt
check "nothing else is left" [ "$(ls -A clips | grep -c review)" -eq 2 ]
check "the sheet is a picture" [ "$(ffprobe -v error -show_entries stream=codec_name,width -of csv=p=0 \
    clips/review-sheet-1.png)" = "png,1076" ]
check "nothing comes from a network" [ "$(grep -cE '(https?|ws)://|<link|@import|<img' clips/review.html)" -eq 0 ]
check "no text ends its element" [ "$(grep -o '</script>' clips/review.html | wc -l)" -eq 15 ]

# Again, with the sheet there: JSON of the same clips. Spaces are taken out for grep.
touch clips/review-sheet-2.png
review clips --json 2>/dev/null | tr -d ' \t\n' >scores.json
check "the old second sheet is gone" [ ! -e clips/review-sheet-2.png ]
check "13 clips" [ "$(grep -o '"id":' scores.json | wc -l)" -eq 13 ]
check "three left out" grep -qF '"left_out":[{"file":"notes.txt"' scores.json
score() {
    sed -n "s/.*\"file\":\"$1\",\"id\".*/&/;s/.*\"file\":\"$1\",\"id\"[^}]*\"$2\":\([^,}]*\).*/\1/p" scores.json
}
check "noise flickers" [ "$(score noise.mp4 flicker | cut -d. -f1)" -gt 10 ]
check "the others do not" [ "$(score ring-direct-1.mp4 flicker | cut -d. -f1)" -lt 1 ]
check "a still has no motion" [ "$(score still.mp4 motion)" = 0 ]
check "black frames" [ "$(score black.mp4 black_frames)" -eq 8 ]
check "frozen frames" [ "$(score still.mp4 frozen_frames)" -eq 7 ]
check "none here" [ "$(score ring-direct-1.mp4 black_frames)$(score ring-direct-1.mp4 frozen_frames)" = 00 ]
check "a foreign clip has no settings" grep -qE '"file":"foreign.mp4"[^]]*\],"settings":null' scores.json
check "eight PNG files are one clip" grep -qE '"file":"frames-0001.png","id":"[0-9a-f]{16}","width":64,"height":48,"frames":8,"fps":8' scores.json

# What somebody else sent reads no file and writes none but the output.
forge() { # settings as JSON
    ffmpeg -nostdin -v error -y -i clips/foreign.mp4 -c copy -movflags use_metadata_tags -metadata \
        vidilate="$1" forged.mp4
}
forge '{"prompt": "@secret.txt", "steps": 1, "save-latents": "stolen.safetensors"}'
expect 3 'save-latents"]: is nothing that a clip records' "$PROGRAM" render --from forged.mp4 -o x.mp4
forge '{"prompt": "x", "output": "stolen.mp4", "force": ""}'
expect 3 "output: is nothing that a clip records" "$PROGRAM" render --from forged.mp4 -o x.mp4
picks() {
    echo "{\"version\": 1, \"picks\": [{\"file\": \"a.mp4\", \"verdict\": \"pick\", \"settings\": $1}]}" >picks.json
    "$PROGRAM" batch --from picks.json --out larger --check >out.txt 2>err.txt
}
check "a prompt that begins with @ is a prompt" picks '{"prompt": "@nowhere.txt", "steps": 1}'
picks '{"prompt": "x", "save-latents": "stolen.safetensors"}' && fail "picks name a file to write"
check "it says which" grep -qF 'save-latents"]: is nothing that a clip records' err.txt

# A full disk: every write beyond the limit fails.
mkdir whole
cp clips/ring-direct-?.mp4 whole
full_disk() (
    ulimit -f 40
    "$PROGRAM" review whole "$@"
)
expect 6 "writing failed" full_disk -o full.html --no-sheet

check "linked clips make a small page" review clips --embed never -o linked.html --no-sheet >out.txt 2>err.txt
check "it names them" grep -q '"src":"clips/ring-direct-1.mp4"' linked.html
check "percent signs and quotes" grep -q '"src":"clips/%22%3E%3Cb%3E%27%C3%A9%20%26%20%23%3F%2541.mp4"' linked.html

# A clip with 64 MiB of padding (a box that players skip): the page would be too large to mail.
printf '\x04\x00\x00\x00free' >>whole/ring-direct-1.mp4
truncate -s +67108856 whole/ring-direct-1.mp4
check "a large page links" review whole --no-sheet >out.txt
check "and says why" grep -q 'with them inside it would be 9[0-9] MB (--embed always)$' out.txt
check "it is small" [ "$(stat -c %s whole/review.html)" -lt 100000 ]
check "unless told to" review whole --no-sheet --embed always >out.txt
check "then it is large" [ "$(stat -c %s whole/review.html)" -gt 80000000 ]
finish
