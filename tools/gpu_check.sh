#!/usr/bin/env bash
# All checks of the CUDA backend that need a device, in one go and under nine minutes: builds what can
# be built, runs every test on the device (a skipped one is a failure here), then some under
# compute-sanitizer, then times. Needs nvcc, cuBLASLt, cuDNN 9, cmake and cJSON; not the network.
#
# cJSON is the one library that a machine for CUDA may lack. Where there is a network:
#     apt-get download libcjson1 libcjson-dev && for f in *.deb; do dpkg -x "$f" cjson; done
# and then VD_PREFIX=cjson/usr tools/gpu_check.sh. cuDNN is found in Python's packages too.
# Usage: tools/gpu_check.sh [BUILD_DIR]
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
build=${1:-build-gpu}
start=$SECONDS
failures=0

say() { printf '\n== %s (%d s)\n' "$1" $((SECONDS - start)); }
failed() {
    echo "FAILED: $1"
    failures=$((failures + 1))
}
left() { echo $((530 - SECONDS + start)); } # seconds until the end

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
    options+=(-DVD_ONLY_NETWORKS=ON -DVD_CPU=OFF)
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

say "tests on the device"
timeout "$(($(left) - 120))" ctest --test-dir "$build" -L cuda -j 4 --timeout 150 --output-on-failure \
    >"$build.tests" 2>&1 || failed "tests: $build.tests"
grep -E 'Passed|Failed|Skipped|Timeout|NMSE|CHECK' "$build.tests" | head -80
if grep -q Skipped "$build.tests"; then
    failed "tests were skipped"
fi

if [ "$whole" = yes ]; then
    say "the program: the same frames twice"
    frames() { "$build/vidilate" render --model models/shapes --backend cuda --steps 4 --prompt "a red circle" -o hash:; }
    first=$(frames) || failed render
    second=$(frames) || failed render
    echo "$first"
    [ "${first##*sha256:}" = "${second##*sha256:}" ] || failed "two renders differ"
fi

say "compute-sanitizer"
command -v compute-sanitizer >/dev/null || failed "compute-sanitizer is not installed"
for tool in memcheck racecheck initcheck; do
    for test in resize freeu norm; do
        if [ "$(left)" -lt 90 ] || ! command -v compute-sanitizer >/dev/null; then
            failed "$tool $test: left out"
            continue
        fi
        VD_TEST_BACKEND=cuda VIDILATE_MODULE_DIR=$build timeout 60 compute-sanitizer --tool "$tool" \
            --error-exitcode 9 "$build/tests/backend/test_backend_$test" >"$build.$tool.$test" 2>&1
        case $? in
        0) echo "$tool $test: clean" ;;
        124) failed "$tool $test: no end within 60 s" ;;
        *) failed "$tool $test: $build.$tool.$test" ;;
        esac
    done
done

say "speed"
"$python" - <<'EOF' || echo "no PyTorch: its matmul rate is not known"
import torch
n = 8192
a, b = (torch.randn(n, n, device="cuda", dtype=torch.bfloat16) for _ in range(2))
for _ in range(3):
    a @ b
begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
begin.record()
for _ in range(10):
    a @ b
end.record()
torch.cuda.synchronize()
print(f"PyTorch {torch.__version__}: bf16 matmul {2 * n**3 * 10 / begin.elapsed_time(end) / 1e9:.0f} TFLOP/s")
EOF
if [ "$whole" = yes ] && [ -n "${VD_BENCH_MODEL:-}" ]; then
    for side in 256 512 1024; do
        timeout "$(left)" "$build/vidilate" bench --backend cuda --dtype bf16 --model "$VD_BENCH_MODEL" \
            --frames 16 --width $side --height $side --json || failed "bench at $side"
    done
else
    echo "not timed: steps (needs the whole program, and a model's folder in VD_BENCH_MODEL)"
fi

say "$failures failures"
[ "$failures" -eq 0 ]
