#!/usr/bin/env bash
# All checks of the CUDA backend that need a device, in one go and under nine minutes: builds what can
# be built, runs every test on the device (a skipped one is a failure here), then some under
# compute-sanitizer, then times and errors beside PyTorch's (tools/gpu_peers.py). Needs nvcc, cuBLASLt,
# cuDNN 9, cmake, cJSON and, for the last part, PyTorch (and diffusers, for a network to compare with);
# not the network. What could not be looked at is a failure, too: it says so.
#
# cJSON is the one library that a machine for CUDA may lack. Where there is a network:
#     apt-get download libcjson1 libcjson-dev && for f in *.deb; do dpkg -x "$f" cjson; done
# and then VD_PREFIX=cjson/usr tools/gpu_check.sh. cuDNN is found in Python's packages too.
# VD_CHECK_SMALL=1 tries the script without a device, on the emulated one and the CPU (tests/cuda).
# Usage: tools/gpu_check.sh [BUILD_DIR]
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
build=$(realpath -m "${1:-build-gpu}")
small=${VD_CHECK_SMALL:-}
start=$SECONDS
failures=0

say() { printf '\n== %s (%d s)\n' "$1" $((SECONDS - start)); }
failed() {
    echo "FAILED: $1"
    failures=$((failures + 1))
}
# Seconds until a part has to end, counted from the beginning; 530 of the 540 are for all.
until_s() {
    local left=$(($1 - SECONDS + start))
    [ -n "$small" ] && left=$((left + 3000))
    echo $((left > 1 ? left : 1))
}

say "device"
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader || failed "nvidia-smi"
architecture=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -1 | tr -d .)
python=${PYTHON:-python3}
if [ -z "${CUDNN_ROOT:-}" ] &&
    folder=$("$python" -c 'import nvidia.cudnn as c; print(list(c.__path__)[0])' 2>/dev/null); then
    export CUDNN_ROOT=$folder
fi

say "build"
options=(-DVD_CUDA=ON "-DVD_CUDA_ARCHITECTURES=${architecture:-90}" -DVD_TESTS=ON -DVD_WERROR=OFF)
whole=no
if pkg-config --exists libcjson libutf8proc libavformat libavcodec libavutil libswscale 2>/dev/null &&
    [ -e /usr/include/dnnl.h ]; then
    whole=yes
else
    options+=(-DVD_ONLY_NETWORKS=ON)
    [ -n "$small" ] || options+=(-DVD_CPU=OFF)
    echo "oneDNN, FFmpeg, cJSON or utf8proc is missing: networks only, no program"
fi
if [ -n "${VD_PREFIX:-}" ]; then
    prefix=$(realpath "$VD_PREFIX")
    options+=("-DCMAKE_PREFIX_PATH=$prefix" "-DCMAKE_LIBRARY_PATH=$prefix/lib/$(uname -m)-linux-gnu")
fi
if ! { cmake -S . -B "$build" "${options[@]}" && cmake --build "$build" -j "$(nproc)"; } >"$build.log" 2>&1; then
    tail -20 "$build.log"
    echo "FAILED: build (all of it: $build.log)"
    exit 1
fi
# Where the backend lies, and the tests on it.
export VIDILATE_MODULE_DIR=$build${small:+/emulated}
label=${small:+emulated}
label=${label:-cuda}

say "tests on the device"
timeout "$(until_s 300)" ctest --test-dir "$build" -L "^$label\$" -j 4 --timeout 150 --output-on-failure \
    >"$build.tests" 2>&1 || failed "tests: $build.tests"
grep -E 'Passed|Failed|Skipped|Timeout|NMSE|CHECK' "$build.tests" | head -80
if grep -q Skipped "$build.tests"; then
    failed "tests were skipped"
fi

if [ "$whole" = yes ]; then
    say "the program: the same frames twice, and with --offload"
    frames() {
        timeout "$(until_s 320)" "$build/vidilate" render --model models/shapes --backend cuda --steps 4 \
            --frames 2 --prompt "a red circle" -o hash: "$@"
    }
    first=$(frames) || failed render
    second=$(frames --threads 1) || failed render
    third=$(frames --offload) || failed "render --offload"
    echo "$first"
    [ "${first##*sha256:}" = "${second##*sha256:}" ] || failed "two renders differ"
    [ "${first##*sha256:}" = "${third##*sha256:}" ] || failed "--offload changes the frames"
fi

# The operations' tests reach all kernels; of their cases every so many, for each is slow here.
say "compute-sanitizer"
command -v compute-sanitizer >/dev/null || failed "compute-sanitizer is not installed"
for tool in memcheck racecheck initcheck; do
    for test in backend/resize:1 backend/freeu:1 backend/eltwise:3 backend/norm:6 backend/attention:8 \
        backend/conv:12 backend/linear:20 unet3d/redilate:1; do
        area=${test%/*}
        name=${test#*/}
        name=${name%:*}
        if [ "$(until_s 380)" -lt 5 ] || ! command -v compute-sanitizer >/dev/null; then
            failed "$tool $name: left out"
            continue
        fi
        VD_TEST_BACKEND=cuda VD_TEST_EVERY=${test#*:} timeout 40 compute-sanitizer --tool "$tool" \
            --error-exitcode 9 "$build/tests/$area/test_${area}_$name" >"$build.$tool.$name" 2>&1
        case $? in
        0) echo "$tool $name: clean" ;;
        124) failed "$tool $name: no end within 40 s" ;;
        *) failed "$tool $name: $build.$tool.$name" ;;
        esac
    done
done

say "times and errors beside PyTorch's"
if ! "$python" -c 'import torch' 2>/dev/null; then
    failed "no PyTorch for $python: nothing was compared or timed"
elif [ -n "$small" ]; then
    "$python" tools/gpu_peers.py "$build" --small --seconds 1000 --parts products,ops || failed "ops beside PyTorch"
    VD_TEST_BACKEND=cpu "$python" tools/gpu_peers.py "$build" --small --seconds 1000 --parts products,steps,network ||
        failed "steps beside PyTorch"
else
    limit=$(until_s 530)
    timeout $((limit + 5)) "$python" tools/gpu_peers.py "$build" --seconds "$limit" || failed "beside PyTorch"
fi

say "$failures failures"
[ "$failures" -eq 0 ]
