#!/usr/bin/env bash
# Stable Diffusion folders draw one picture. The networks are the small ones of the parity data, so only
# their structure is real; what they compute is compared with PyTorch in cli.golden.
. "$(dirname "$0")/common.sh" "$@"
# folder NAME GOLDEN_MODEL COMPONENT=FOLDER...: a folder as diffusers saves it.
folder() {
    local name=$1 model=$2 component
    shift 2
    rm -rf "$name"
    mkdir "$name"
    cp -L "$GOLDEN/$model/model_index.json" "$name"
    for component in "$@"; do
        cp -rL "$GOLDEN/${component#*=}" "$name/${component%%=*}"
    done
    for component in "$name"/tokenizer*; do
        cp -L "$GOLDEN"/t2v-ms/tokenizer/{vocab.json,merges.txt} "$component"
    done
    chmod -R u+w "$name"
}
sd15() {
    folder sd15 i-sd15 unet=i-sd15/unet vae=i-sd15/vae scheduler=i-sd15/scheduler \
        tokenizer=i-sd15/tokenizer text_encoder=i-sd15/text_encoder
}
sdxl() {
    folder sdxl i-sdxl unet=i-sdxl/unet vae=i-sdxl/vae scheduler=i-sdxl/scheduler tokenizer=i-sdxl/tokenizer \
        tokenizer_2=i-sdxl/tokenizer_2 text_encoder=i-sd15/text_encoder text_encoder_2=i-sdxl/text_encoder_2
}
render() {
    "$PROGRAM" render --model "$1" --prompt "a corgi on a beach chair" --steps 2 --dtype f32 "${@:2}"
}
digest() {
    render "$@" --width 64 --height 64 -o hash: 2>/dev/null | sed 's/.*sha256://'
}
sd15
folder sd21 i-sd21 unet=i-sd21/unet vae=i-sd15/vae scheduler=i-sd21/scheduler tokenizer=i-sd21/tokenizer \
    text_encoder=t2v-ms/text_encoder
sdxl

# A PNG that any viewer opens, with its settings inside, which make the same picture again.
for model in sd15 sd21 sdxl; do
    check "$model draws" render $model -o $model.png --width 72 --height 64 >out.txt
    check "$model says so" grep -q "^$model.png: 72x64, 1 frames" out.txt
    check "$model: a PNG" [ "$(ffprobe -v error -show_entries stream=codec_name,width,height,pix_fmt -of csv=p=0 \
        $model.png)" = "png,72,64,rgb24" ]
    rm -f again.png
    check "$model again, on one thread" render $model --from $model.png --threads 1 -o again.png >/dev/null
    check "$model: the same bytes" cmp $model.png again.png
done
check "its own size" grep -q '128x128' <(render sdxl --guidance 1 -o hash:)
check "another prompt" [ "$(digest sdxl)" != "$(digest sdxl --prompt "a red ring")" ]
check "nothing else is left" [ "$(ls -A | sort | tr '\n' ' ')" = \
    "again.png out.txt sd15 sd15.png sd21 sd21.png sdxl sdxl.png " ]
check "a percent sign" render sd15 -o '100%%.png' >/dev/null
check "its name" [ -f 100%.png ]
check "a numbered name" render sd15 -o 'n%02d.png' >/dev/null
check "starts at 1" [ -f n01.png ]
check "a clip of one frame" render sd15 -o one.mp4 >/dev/null
check "is one" [ "$(ffprobe -v error -select_streams v -show_entries stream=nb_frames -of csv=p=0 one.mp4)" = 1 ]
check "latents" render sd15 --save-latents l.safetensors -o null: >/dev/null
check "their shape" grep -qF '[1,4,1,16,16]' <("$PROGRAM" inspect --json l.safetensors | tr -d ' \n')

# A model that is kept loaded knows the prompt's pooled text too.
echo '{"version": 1, "defaults": {"model": "sdxl", "prompt": "a corgi", "steps": 1, "width": 64, "height": 64},
    "jobs": [{"name": "a"}, {"name": "b"}]}' >jobs.json
check "a batch" "$PROGRAM" batch jobs.json --out out >/dev/null
check "of equal pictures" [ "$(ffmpeg -v error -i out/a.mp4 -f md5 -)" = "$(ffmpeg -v error -i out/b.mp4 -f md5 -)" ]

# What is missing means "" to Stable Diffusion and zeros to XL.
check "no negative prompt is an empty one" [ "$(digest sd15)" = "$(digest sd15 --negative-prompt "")" ]
check "not to XL" [ "$(digest sdxl)" != "$(digest sdxl --negative-prompt "")" ]
empty=$(digest sdxl --negative-prompt "")
sed -i 's/"force_zeros_for_empty_prompt": true/"force_zeros_for_empty_prompt": false/' sdxl/model_index.json
check "unless its index says so" [ "$(digest sdxl)" = "$empty" ]
sdxl

# The method knows both networks' layers.
echo '{"dilate": {"mid_block": 2, "up_blocks.0": 1.5}, "dilate_tau": 1}' >settings.json
for model in sd15 sdxl; do
    check "$model re-dilated" [ "$(digest $model --settings settings.json)" != "$(digest $model)" ]
done
echo '{"dilate": {"down_blocks.3": 2}}' >bad.json
expect 3 "down_blocks.3" render sdxl --settings bad.json -o x.png

for fact in '"pipeline":"StableDiffusionXLPipeline"' '"text_encoder_2":{' '"frames":1' '"width":128'; do
    check "inspect: $fact" grep -qF "$fact" <("$PROGRAM" inspect --json sdxl | tr -d ' \n\t')
done
check "bench" grep -q '"tflop"' <("$PROGRAM" bench --model sdxl --steps 1 --json --width 64 --height 64)

expect 2 "must be 1" render sd15 --frames 2 -o x.png
expect 2 "only a single frame" "$PROGRAM" render --model "$MODEL" --prompt x -o x.png
expect 2 "%d" render sd15 -o 'x%s.png'
for part in tokenizer_2 text_encoder_2; do
    mv sdxl/$part away
    expect 3 "$part" render sdxl -o x.png
    mv away sdxl/$part
done
rm -r sdxl/text_encoder_2
cp -r sd15/text_encoder sdxl/text_encoder_2
expect 3 "text_projection" render sdxl -o x.png
sed -i 's/StableDiffusionXLPipeline/StableDiffusionPipeline/' sdxl/model_index.json
expect 3 "added embedding" render sdxl -o x.png
sed -i 's/StableDiffusionPipeline/TextToVideoSDPipeline/' sd15/model_index.json
expect 3 "names a TextToVideoSDPipeline" render sd15 -o x.png
sed -i 's/TextToVideoSDPipeline/StableDiffusionXLPipeline/' sd15/model_index.json
cp -r sd15/text_encoder sd15/text_encoder_2
expect 3 "added embedding" render sd15 -o x.png
sd15
rm -r sd15/text_encoder
folder narrow i-sd15 text_encoder=i-sdxl/text_encoder_2 tokenizer=i-sd15/tokenizer
mv narrow/text_encoder sd15/text_encoder
expect 3 "different models" render sd15 -o x.png
finish
