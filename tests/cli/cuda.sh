#!/usr/bin/env bash
# --backend cuda without a device: each reason has a line of its own, "auto" is silent, and the
# emulated device (tests/cuda) renders.
source "$(dirname "$0")/common.sh"
EMULATED=$(dirname "$PROGRAM")/emulated
render=("$PROGRAM" render --model "$MODEL" --prompt "$PROMPT" --steps 1 --frames 2 --dtype f32 -o hash:)

mkdir -p none broken other cache/vidilate
echo "no library" >broken/libvidilate_cuda.so
cp "$(dirname "$PROGRAM")/libvidilate.so" other/libvidilate_cuda.so
expect 5 "there is no cuda backend here" env VIDILATE_MODULE_DIR="$WORK/none" "${render[@]}" --backend cuda
expect 5 "cannot be loaded" env VIDILATE_MODULE_DIR="$WORK/broken" "${render[@]}" --backend cuda
expect 5 "another build" env VIDILATE_MODULE_DIR="$WORK/other" "${render[@]}" --backend cuda
check "auto without CUDA" "${render[@]}" --backend auto --progress none 2>auto.txt >/dev/null
expect 2 "leave the option out" "${render[@]}" --backend cpu --offload
expect 2 "leave the option out" "$PROGRAM" bench --model "$MODEL" --backend cpu --offload
check "auto is silent" test "$(grep -c -i cuda auto.txt)" -eq 0

# AddressSanitizer has a line of its own to say of coroutines.
if [ -e "$EMULATED/libvidilate_cuda.so" ] && ! grep -q __asan_init "$PROGRAM"; then
    export VIDILATE_MODULE_DIR=$EMULATED XDG_CACHE_HOME=$WORK/cache
    expect 5 "no CUDA device" env VD_EMULATED_NO_DEVICE=1 "${render[@]}" --backend cuda
    expect 5 "driver is too old" env VD_EMULATED_OLD_DRIVER=1 "${render[@]}" --backend cuda
    expect 5 "the CUDA device was lost" env VD_EMULATED_LOST=500 "${render[@]}" --backend cuda --progress none
    expect 4 "GB are free" "${render[@]}" --backend cuda --width 1024 --height 1024 --frames 32
    check "a render" "${render[@]}" --backend cuda --progress none >hash.txt
    check "its hash" grep -q "sha256:" hash.txt
    # The UNet's weights are 21 MB in float32.
    small=("${render[@]}" --backend cuda --width 32 --height 32 --progress none)
    expect 4 "--offload leaves" env VD_EMULATED_BYTES=20000000 "${small[@]}"
    expect 4 "--offload, or" env VD_EMULATED_BYTES=22000000 "${render[@]}" --backend cuda --width 64 --height 64 --progress none
    check "weights on the device" "${small[@]}" >resident.txt
    check "weights on the host" env VD_EMULATED_BYTES=8000000 "${small[@]}" --offload >offload.txt
    check "the same frames" [ "$(sed 's/.*sha256//' resident.txt)" = "$(sed 's/.*sha256//' offload.txt)" ]
    echo '{"version": 1, "defaults": {"steps": 1, "frames": 2, "width": 32, "height": 32, "dtype": "f32", "backend": "cuda", "offload": true},
        "jobs": [{"name": "a", "prompt": "a ring"}, {"name": "b", "prompt": "a square"}]}' >jobs.json
    check "a batch" env VD_EMULATED_BYTES=10000000 "$PROGRAM" batch jobs.json --model "$MODEL" --out clips --progress none >batch.txt
    check "both clips" [ "$(wc -l <clips/manifest.jsonl)" -eq 2 ]
    # A step that is recorded and repeated: the latents of steps that are launched op by op. Of each pair of
    # networks one call is plain, one recorded, one repeated.
    echo '{"dilate": {"down_blocks.1": 2, "mid_block": 2}, "dilate_tau": 3, "ndcfg_dilate": {"mid_block": 2}, "ndcfg_tau": 3}' >s.json
    small=("$PROGRAM" render --model "$MODEL" --prompt "$PROMPT" --width 32 --height 32 --frames 1 --steps 6 --dtype f32 -o null:
        --backend cuda --progress none)
    for options in "--scheduler euler-a --guidance-rescale 0.7" "--scheduler unipc --guidance 1" "--settings s.json"; do
        check "repeated: $options" "${small[@]}" $options --save-latents repeated.st 2>err.txt >out.txt
        check "without a word" test ! -s err.txt
        check "launched: $options" env VIDILATE_CUDA_GRAPH=off "${small[@]}" $options --save-latents launched.st 2>err.txt >out.txt
        check "as wished" grep -q "warning: the steps are launched op by op: VIDILATE_CUDA_GRAPH is off" err.txt
        check "the same latents: $options" cmp repeated.st launched.st
    done
    small+=(--settings s.json)
    check "a device that cannot record" env VD_EMULATED_NO_CAPTURE=1 "${small[@]}" --save-latents launched.st 2>err.txt >out.txt
    check "is told once" [ "$(grep -c "warning: the steps are launched op by op: .*recording" err.txt)" -eq 1 ]
    check "draws the same" cmp repeated.st launched.st
fi
finish
