#!/usr/bin/env bash
# Renders under the method's settings: they change the frames, at no thread count differently, and a
# clip carries them. Then what can be wrong in a settings file.
. "$(dirname "$0")/common.sh" "$@"
render() {
    "$PROGRAM" render --model "$MODEL" --prompt "$PROMPT" --width 96 --height 96 --frames 4 --steps 4 "$@"
}
digest() {
    render "$@" -o hash: 2>/dev/null | sed 's/.*sha256://'
}
replay() {
    "$PROGRAM" render --model "$MODEL" --from clip.mp4 "$@" -o hash: | sed 's/.*sha256://'
}
# settings 'JSON' > s.json
settings() {
    printf '%s\n' "$1" >s.json
}

settings '{"dilate": {"mid_block": 2.5, "down_blocks.1.resnets": [1.5, 2]}, "dilate_tau": 3, "progressive": false}'
plain=$(digest --method direct)
dilated=$(digest --settings s.json)
check "a digest has 64 digits" [ ${#dilated} -eq 64 ]
check "settings change the frames" [ "$dilated" != "$plain" ]
for threads in 1 2 3; do
    check "$threads threads" [ "$(digest --settings s.json --threads $threads)" = "$dilated" ]
    check "$threads threads, float32" [ "$(digest --settings s.json --dtype f32 --threads $threads)" = \
        "$(digest --settings s.json --dtype f32 --threads 2)" ]
done
check "settings override the method" [ "$(digest --settings s.json --method direct)" = "$dilated" ]

check "a clip renders" render --settings s.json -o clip.mp4 >/dev/null
"$PROGRAM" inspect --json clip.mp4 | tr -d ' \t\n' >clip.json
check "it carries the settings" grep -qF \
    '"dilate":{"mid_block":2.5,"down_blocks.1.resnets":[1.5,2]},"dilate_tau":3,"progressive":false' clip.json
check "replay" [ "$(replay)" = "$dilated" ]
check "replay without the method" [ "$(replay --method direct)" = "$plain" ]
settings '{"dilate": {"mid_block": 2}, "dilate_tau": 0}'
check "no steps: the plain network" [ "$(digest --settings s.json)" = "$plain" ]
check "replay with other settings" [ "$(replay --settings s.json)" = "$plain" ]
settings '{"dilate": {"mid_block": 4}, "dilate_tau": 4, "progressive": true}'
check "progressive differs" [ "$(digest --settings s.json)" != "$dilated" ]
check "PNDM, which calls once more" render --settings s.json --scheduler pndm -o null: >/dev/null
check "no guidance" render --settings s.json --guidance 1 -o null: >/dev/null
everything='{"dilate": {"mid_block": 4, "down_blocks.1": 2}, "dilate_tau": 4, "progressive": true,
  "ndcfg_dilate": {"mid_block": 2}, "ndcfg_tau": 2, "disperse": ["mid_block"], "inflate_tau": 3, "R": [3, 5, 3, 2, "0.05"],
  "freeu": {"b1": 1.1, "b2": 1.2, "s1": 0.9, "s2": 0.2, "rule": "up_block_index"}, "attention_scale": {"ratio": 2.25}}'
settings "$everything"
all=$(digest --settings s.json)
check "all of the method" [ ${#all} -eq 64 ]
check "all of it, one thread" [ "$(digest --settings s.json --threads 1)" = "$all" ]
check "no guidance, so no damping" render --settings s.json --guidance 1 -o null: >/dev/null
for key in ndcfg_tau inflate_tau freeu attention_scale; do
    settings "$(sed -E "s/\"$key\": ([0-9]+|\{[^}]*\})/\"$key\": null/" <<<"$everything")"
    check "$key changes the frames" [ "$(digest --settings s.json)" != "$all" ]
done
settings "$everything"
check "a clip renders with all of it" render --force --settings s.json -o clip.mp4 >/dev/null
check "replay of all of it" [ "$(replay)" = "$all" ]
rm -f clip.mp4 clip.json

# refuse "words" 'JSON'
refuse() {
    settings "$2"
    expect 3 "$1" render --settings s.json -o x.mp4
}
expect 3 "nowhere.json" render --settings nowhere.json -o x.mp4
refuse "s.json" '{"dilate": '
refuse 's.json: $.dilate_taus: unknown key; did you mean "dilate_tau"?' '{"dilate": {"mid_block": 2}, "dilate_taus": 3}'
refuse '$.step: unknown key' '{"dilate": {"mid_block": 2}, "step": 3}'
refuse 's.json: $.dilate: name at least one layer' '{"dilate": {}}'
refuse '$.dilate.mid_block: the dilation 0.5 is outside 1 to 16' '{"dilate": {"mid_block": 0.5}}'
refuse 's.json: dilate_tau is 5 and the run has 4 steps' '{"dilate": {"mid_block": 2}, "dilate_tau": 5}'
refuse 'did you mean "mid_block"' '{"dilate": {"midblock": 2}}'
refuse '"conv_in" is the first convolution' '{"dilate": {"conv_in": 2}}'
refuse 'is temporal' '{"dilate": {"mid_block.temp_convs.0.conv1": 2}}'
refuse 'both name layer' '{"dilate": {"mid_block": 2, "mid_block.resnets.0": 3}}'
refuse 's.json: $.R: dispersion 3 -> 7, size 2, scale 1: the equations do not determine' \
    '{"dilate": {"mid_block": 2}, "disperse": ["mid_block"], "R": [3, 7, 2, 1, 0]}'
refuse 'which is not in dilate' '{"dilate": {"mid_block.resnets.0": 2}, "disperse": ["mid_block"], "R": [3, 5, 3, 2, 0.05]}'
refuse 'ndcfg_tau is 5 and the run has 4 steps' '{"dilate": {"mid_block": 2}, "ndcfg_tau": 5}'
refuse 'attention among' '{"attention_scale": {"ratio": 4096}}'
finish
