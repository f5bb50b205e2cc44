#!/usr/bin/env bash
# Model folders that are damaged, incomplete or of another kind: exit code 3, one line, no output.
. "$(dirname "$0")/common.sh" "$@"
render() {
    "$PROGRAM" render --model m --steps 1 --prompt "$PROMPT" -o x.mp4
}
fresh() {
    rm -rf m
    cp -r "$MODEL" m
    chmod -R u+w m
}
UNET=m/unet/diffusion_pytorch_model.safetensors

expect 3 "no such folder" "$PROGRAM" render --model nowhere --prompt x -o x.mp4
mkdir empty
expect 3 "model_index.json" "$PROGRAM" render --model empty --prompt x -o x.mp4
for part in unet vae text_encoder tokenizer scheduler; do
    fresh
    rm -r "m/$part"
    expect 3 "m/$part" render
done
for file in unet/config.json vae/config.json text_encoder/config.json \
    scheduler/scheduler_config.json tokenizer/vocab.json model_index.json vidilate.json; do
    fresh
    head -c 20 "m/$file" >cut && mv cut "m/$file"
    expect 3 "$file" render
    echo '[]' >"m/$file"
    expect 3 "$file" render
    printf '\0\0\0' >"m/$file"
    expect 3 "$file" render
done

for size in 0 4 8 100 5000 100000; do
    fresh
    truncate -s "$size" "$UNET"
    expect 3 "diffusion_pytorch_model.safetensors" render
done
fresh
printf '\xff\xff\xff\xff\xff\xff\xff\x7f' | dd of="$UNET" conv=notrunc status=none
expect 3 "diffusion_pytorch_model.safetensors" render
fresh
sed -i 's/"F16"/"F99"/' "$UNET"
expect 3 "F99" render
fresh
sed -i 's/conv_in\.weight/conv_on.weight/' "$UNET"
expect 3 "conv_in.weight" render
fresh
sed -i 's/"conv_in\.bias":{"dtype":"F16","shape":\[48\]/"conv_in.bias":{"dtype":"F16","shape":[24]/' "$UNET"
expect 3 "conv_in.bias" render
fresh
rm "$UNET"
touch m/unet/diffusion_pytorch_model.bin
expect 3 "diffusion_pytorch_model.bin" render

fresh
cp m/vae/config.json m/unet/config.json
expect 3 "AutoencoderKL" render
fresh
sed -i 's/UNet3DConditionModel/UNet4DConditionModel/' m/unet/config.json
expect 3 "UNet4DConditionModel" render
fresh
sed -i 's/TextToVideoSDPipeline/FluxPipeline/' m/model_index.json
expect 3 "FluxPipeline" render
fresh
sed -i 's/"norm_num_groups": 16/"norm_num_groups": 7/' m/unet/config.json
expect 3 "m/unet/config.json" render
fresh
sed -i 's/"layers_per_block": 1/"layers_per_block": 1000000000/' m/unet/config.json
expect 3 "layers_per_block" render
fresh
sed -i 's/"v_prediction"/"w_prediction"/' m/scheduler/scheduler_config.json
expect 3 "prediction_type" render
fresh
echo '{"frames": 8, "framse": 9}' >m/vidilate.json
expect 3 "framse" render

head -c 3000 /dev/zero >junk.mp4
expect 3 "junk.mp4" "$PROGRAM" inspect junk.mp4
expect 3 "junk.mp4" "$PROGRAM" render --from junk.mp4 -o x.mp4
expect 3 "nowhere" "$PROGRAM" inspect nowhere
head -c 100 "$MODEL/unet/diffusion_pytorch_model.safetensors" >cut.safetensors
expect 3 "cut.safetensors" "$PROGRAM" inspect cut.safetensors
expect 3 "cut.safetensors" "$PROGRAM" render --model "$MODEL" --prompt x --latents cut.safetensors -o x.mp4
expect 3 "latents" "$PROGRAM" render --model "$MODEL" --prompt x \
    --latents "$MODEL/vae/diffusion_pytorch_model.safetensors" -o x.mp4
expect 3 "has no case" "$PROGRAM" forward --manifest "$SOURCE/tests/golden/manifest.json" --case none -o x.safetensors
expect 2 "group" "$PROGRAM" forward --manifest "$SOURCE/tests/golden/manifest.json" --case t2v-ms-taps -o x.safetensors
finish
