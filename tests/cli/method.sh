#!/usr/bin/env bash
# --method by name, what --explain says of it, and that a clip renders again whatever chose its settings.
. "$(dirname "$0")/common.sh" "$@"
render() {
    "$PROGRAM" render --model "$MODEL" --prompt "$PROMPT" --frames 2 --steps 4 "$@"
}
digest() {
    render "$@" -o hash: 2>/dev/null | sed 's/.*sha256://'
}
replay() {
    "$PROGRAM" render --model "$MODEL" --from clip.mp4 "$@" -o hash: | sed 's/.*sha256://'
}
explain() {
    "$PROGRAM" render --model "$MODEL" --explain "$@" >explained.txt
}
says() {
    check "\"$1\" is explained" grep -qF -- "$1" explained.txt
}

# At the model's own size auto is the plain network; above, it is not; every name renders.
check "auto at 1x" [ "$(digest)" = "$(digest --method direct)" ]
direct=$(digest --width 96 --height 96 --method direct)
auto=$(digest --width 96 --height 96)
check "a digest has 64 digits" [ ${#auto} -eq 64 ]
check "auto at 1.5x" [ "$auto" != "$direct" ]
# A factor below 2 cannot be halved: there disperse is re-dilation.
check "disperse at 1.5x" [ "$(digest --width 96 --height 96 --method disperse)" = \
    "$(digest --width 96 --height 96 --method redilate)" ]
for method in redilate attn-scale freeu low-res ndcfg; do
    one=$(digest --width 96 --height 96 --method $method)
    check "$method renders" [ ${#one} -eq 64 ]
    check "$method differs from direct" [ "$one" != "$direct" ]
done
check "low-res, 1 and 2 threads" [ "$(digest --width 96 --height 64 --method low-res --threads 1)" = \
    "$(digest --width 96 --height 64 --method low-res --threads 2)" ]
for scheduler in unipc pndm; do
    check "low-res with $scheduler" render --width 96 --height 96 --method low-res --scheduler $scheduler -o null: >/dev/null
done
check "progress counts both renders" grep -q '"done":8,"total":8' \
    <(render --width 96 --height 96 --method low-res --progress json -o null: 2>&1)

# A clip keeps its frames; another size makes auto choose again; direct stays direct.
check "a clip renders" render --width 96 --height 96 -o clip.mp4 >/dev/null
check "replay" [ "$(replay)" = "$auto" ]
check "replay, another method" [ "$(replay --method direct)" = "$direct" ]
check "replay, another size" [ "$(replay --width 128)" = "$(digest --width 128 --height 96)" ]
check "replay, other steps" [ "$(replay --steps 3)" = "$(digest --width 96 --height 96 --steps 3)" ]
check "a direct clip renders" render --width 96 --height 96 --method direct --force -o clip.mp4 >/dev/null
check "replay of direct" [ "$(replay)" = "$direct" ]
rm clip.mp4

# --explain renders nothing and needs neither prompt nor output.
check "explain at 1x" explain
says "the plain network"
check "explain by size" explain --width 96 --height 160 --steps 25
says "1.5 times as wide, 2.5 times as high; 25 steps"
says "re-dilated by 2.5 high, 1.5 wide"
says "steps 0-"
check "explain low-res" explain --scale 2 --method low-res
says "steps 0-24 (timesteps 999 to 519)"
says "no network: a render at 64x64 first"
check "explain attention scaling" explain --width 128 --height 64 --method attn-scale
says "for 2 times the tokens"
check "explain FreeU" explain --method freeu
says "up_blocks.0 and up_blocks.1, b 1.1 1.2, s 0.9 0.2"
check "explain noise damping" explain --scale 2 --method ndcfg
says "noise-damped guidance"
check "explain dispersion" explain --scale 2 --method disperse
says "with dispersed kernels"
check "explain a dispersion of nothing" explain --scale 1.5 --method disperse
says "nothing is dispersed"
check "explain LCM" explain --scale 2 --method redilate --scheduler lcm --steps 4
says "step 3 (timesteps 259 to 259)"
check "explain as JSON" explain --scale 2 --json
python=$(command -v python3 || true)
if [ -n "$python" ]; then
    check "it is JSON, its ranges cover the run" "$python" -c '
import json
e = json.load(open("explained.txt"))
assert (e["width"], e["height"], e["steps"], e["method"]) == (128, 128, 50, "auto"), e
at = 0
for r in e["ranges"]:
    assert r["first"] == at and r["last"] >= at
    at = r["last"] + 1
assert at == e["calls"] == 50
assert any(r.get("network", {}).get("dilate") for r in e["ranges"])'
fi

# Rows of one's own, a list of ScaleCrafter's, and a file that ships.
mkdir rows
cat >rows/mine.json <<'ROW'
{"for": {"class": "UNet3DConditionModel", "block_out_channels": [48, 80, 112], "trained": [64, 64],
         "size": [128, 128]}, "about": "a test", "dilate": {"mid_block": 3}, "dilate_tau": 10}
ROW
check "one's own row" explain --scale 2 --configs rows
says "mine: made for this network and size"
says "steps 0-9"
says "re-dilated by 3    mid_block"
check "as a file" explain --scale 2 --settings rows/mine.json
says "rows/mine.json"
check "one's own row elsewhere" explain --scale 1.5 --configs rows
says "re-dilated by 2 "
says "mine is nearest"
printf 'mid_block.resnets.0.conv1:2\n\nmid_block.resnets.1.conv2 : 2.5\r\n' >list.txt
check "a list" explain --scale 2 --settings list.txt
says "re-dilated by 2.5  mid_block.resnets.1.conv2"
check "a list renders" render --width 96 --height 96 --settings list.txt -o null: >/dev/null
echo 'down_blocks.3.resnets.0.conv1:2' >>list.txt
echo 'down_blocks.3.resnets.0.conv2:2' >>list.txt
"$PROGRAM" render --model "$MODEL" --explain --settings list.txt >/dev/null 2>err.txt
check "names of other models warn" grep -qF \
    'warning: list.txt: the model has no layer "down_blocks.3.resnets.0.conv1" nor 1 more' err.txt
check "one line" [ "$(wc -l <err.txt)" -eq 1 ]

expect 2 "must be one of auto, direct" render --method magic -o x.mp4
expect 2 "--json goes with --explain" render --json -o x.mp4
expect 2 "width" "$PROGRAM" render --model "$MODEL" --explain --width 0
expect 3 "nowhere" render --scale 2 --configs nowhere -o x.mp4
echo '{"dilate": {"mid_block": 2}}' >rows/broken.json
expect 3 'broken.json: $: a file of a configs folder needs "for"' render --scale 2 --configs rows -o x.mp4
echo 'mid_block.temp_convs.0.conv1:2' >list.txt
expect 3 "is temporal" render --settings list.txt -o x.mp4
echo 'down_blocks.3.resnets.0.conv1:2' >list.txt
expect 3 "names no layer that the model has" render --settings list.txt -o x.mp4
echo 'mid_block:17' >list.txt
expect 3 "list.txt: line 1: the dilation 17" render --settings list.txt -o x.mp4
printf 'mid_block:2\nmid_block=3\n' >list.txt
expect 3 "list.txt: line 2" render --settings list.txt -o x.mp4
printf 'mid_block:2\nmid_block.resnets.0:3\n' >list.txt
expect 3 "both name layer" render --settings list.txt -o x.mp4
echo '{"low_res_tau": 5}' >s.json
expect 3 "low_res_tau is 5 and the run has 4 steps" render --settings s.json -o x.mp4
finish
