#!/usr/bin/env bash
# NaN and infinity end a render with the step and the layer that they begin in; a black, flat or frozen clip is told.
. "$(dirname "$0")/common.sh" "$@"
UNET=m/unet/diffusion_pytorch_model.safetensors
VAE=m/vae/diffusion_pytorch_model.safetensors
TEXT=m/text_encoder/model.safetensors
fresh() {
    rm -rf m
    cp -r "$MODEL" m
    chmod -R u+w m
}
# poison FILE TENSOR '\xLO\xHI' [all]: a value of two bytes in the place of its first one, or of all.
poison() {
    local header begin end count
    header=$(od -An -t u8 -N8 "$1" | tr -d ' ')
    read -r begin end < <(tail -c +9 "$1" | head -c "$header" | grep -ao "\"$2\":{[^}]*}" |
        sed 's/.*\[\([0-9]*\),\([0-9]*\)\]}/\1 \2/')
    count=1
    [ "${4:-}" != all ] || count=$(((end - begin) / 2))
    printf "$3%.0s" $(seq "$count") |
        dd of="$1" conv=notrunc status=none bs=4096 seek=$((8 + header + begin)) oflag=seek_bytes
}
render() {
    "$PROGRAM" render --model m --steps 2 --prompt "$PROMPT" -o x.mp4 "$@"
}
NAN='\x00\x7e' INFINITY='\x00\x7c' ZERO='\x00\x00'

# In any kind of layer: the first of the network's order, not of the file's.
for layer in conv_in time_embedding.linear_2 down_blocks.0.resnets.0.conv2 down_blocks.0.temp_convs.0.conv3.0 \
    down_blocks.1.attentions.0.transformer_blocks.0.norm1 down_blocks.1.temp_attentions.0.proj_in up_blocks.2.resnets.1.conv1 \
    conv_out; do
    fresh
    poison $UNET $layer.weight "$NAN"
    poison $UNET conv_out.bias "$NAN"
    expect 5 "step 1 of 2: NaN or infinity; the first bad layer is $layer (gives NaN)" render
done
# Matrices that are one product.
fresh
poison $UNET down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_k.weight "$NAN"
expect 5 "layer is down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q/to_k/to_v (gives NaN)" render
fresh
poison $UNET down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_v.weight "$NAN"
expect 5 "layer is down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k/to_v (gives NaN)" render
fresh
poison $UNET down_blocks.0.resnets.0.conv1.weight "$INFINITY"
expect 5 "layer is down_blocks.0.resnets.0.conv1 (gives" render

# An overflow: finite weights, too large for any type of this exponent.
fresh
sed -i '1s/"format":"pt"/"format":"p"/; 1s/"conv_in\.weight":{"dtype":"F16"/"conv_in.weight":{"dtype":"BF16"/' $UNET
poison $UNET conv_in.weight '\x7f\x7f'
expect 5 "the first bad layer is conv_in (gives infinity)" render
check "f32 is offered" grep -q -e '--dtype f32' <(render --dtype bf16 2>&1)
check "but not to f32" grep -q 'that is in f32: look at its weights' <(render --dtype f32 2>&1)

# Finite in each layer, infinite after the guidance.
fresh
sed -i '1s/"format":"pt"/"format":"p"/; 1s/"conv_out\.weight":{"dtype":"F16"/"conv_out.weight":{"dtype":"BF16"/' $UNET
poison $UNET conv_out.weight '\x00\x7e' # 4e37
expect 5 "step 1 of 2: NaN or infinity, though each layer of the network gives numbers" render --guidance 1000

# With each scheduler, one that clamps included, each way of guidance, and in the small render of low-res.
fresh
poison $UNET conv_in.weight "$NAN"
for options in "--scheduler ddim" "--scheduler dpmpp2m" "--scheduler euler" "--guidance 1" "--scale 2 --method low-res" \
    "--scale 2 --method ndcfg"; do
    expect 5 "step 1 of " render $options
done

# The other networks.
fresh
poison $TEXT final_layer_norm.weight "$NAN"
expect 5 "the text encoder: NaN or infinity; the first bad layer is final_layer_norm (gives NaN)" render
fresh
poison $VAE decoder.conv_in.weight "$NAN"
expect 5 "decoding of frame 1 of 8: NaN or infinity; the first bad layer is decoder.conv_in (gives NaN)" render -o hash:

# In a batch the rest go on.
cat >jobs.json <<END
{"defaults": {"steps": 2, "prompt": "$PROMPT"}, "jobs": [{"name": "bad", "model": "m"}, {"name": "good", "model": "$MODEL"}]}
END
"$PROGRAM" batch jobs.json --out all >out.txt 2>err.txt
check "the batch's code" [ $? -eq 5 ]
check "the failure is recorded" grep -q '^{"name":"bad","error":"decoding of frame 1 of 8: NaN.*decoder.conv_in.*","exit":5,' all/failed.jsonl
check "the other job is rendered" [ -s all/good.mp4 ]

# Results that can be had, but are hardly meant: told, and kept.
told() { # WORDS options...: the one warning, and the clip
    local words=$1
    shift
    render "$@" >out.txt 2>err.txt
    check "a clip all the same" [ -s x.mp4 ]
    check "told: $words" [ "$(cat err.txt)" = "vidilate: warning: $words" ]
    rm -f x.mp4
}
fresh
poison $VAE decoder.conv_out.weight "$ZERO" all
poison $VAE decoder.conv_out.bias "$ZERO" all
told "every frame is of one flat colour"
poison $VAE decoder.conv_out.bias '\x00\xc8' all # -8
told "every frame is black"
sed -i 's/"model": "m"/"model": "m", "seed": 4/' jobs.json
check "a black clip of a batch" "$PROGRAM" batch jobs.json --out all 2>err.txt >out.txt
check "is told" grep -q '^vidilate: warning: bad: every frame is black$' err.txt
check "and in the manifest" grep -q '^{"name":"bad".*"fault":"black"' all/manifest.jsonl
check "the others have no fault" [ "$(grep -c '"fault"' all/manifest.jsonl)" -eq 1 ]

# The latents of one frame, eight times.
check "one frame" "$PROGRAM" render --model "$MODEL" --steps 2 --frames 1 --prompt "$PROMPT" --save-latents one.st -o null: >out.txt
header='{"latents":{"dtype":"F32","shape":[1,4,8,16,16],"data_offsets":[0,32768]}}      '
printf '%b' "\\x$(printf %x ${#header})\\0\\0\\0\\0\\0\\0\\0$header" >eight.st
for channel in 3 2 1 0; do
    for _ in 1 2 3 4 5 6 7 8; do
        tail -c $((1024 * (channel + 1))) one.st | head -c 1024
    done
done >>eight.st
told "all frames are alike: the clip is frozen" --model "$MODEL" --decode-only --latents eight.st
check "a clip that moves is not told" render --model "$MODEL" --steps 4 2>err.txt >out.txt
check "of anything" [ ! -s err.txt ]
finish
