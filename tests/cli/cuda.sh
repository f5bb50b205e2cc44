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
check "auto is silent" test "$(grep -c -i cuda auto.txt)" -eq 0

# AddressSanitizer has a line of its own to say of coroutines.
if [ -e "$EMULATED/libvidilate_cuda.so" ] && ! grep -q __asan_init "$PROGRAM"; then
    export VIDILATE_MODULE_DIR=$EMULATED XDG_CACHE_HOME=$WORK/cache
    expect 5 "no CUDA device" env VD_EMULATED_NO_DEVICE=1 "${render[@]}" --backend cuda
    expect 4 "GB are free" "${render[@]}" --backend cuda --width 1024 --height 1024 --frames 32
    check "a render" "${render[@]}" --backend cuda --progress none >hash.txt
    check "its hash" grep -q "sha256:" hash.txt
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
