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
fi
finish
