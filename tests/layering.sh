#!/usr/bin/env bash
# Includes point down only, vendor headers stay where they belong, and no backend #ifdef is outside
# backend/backend.c. Usage: tests/layering.sh SOURCE_DIR
set -euo pipefail
cd "$1"
failures=0

# FOLDER: the folders that its files may include from.
declare -A allowed=(
    [core]="core"
    [backend]="core backend"
    [text]="core backend text"
    [temporal]="core backend temporal"
    [unet3d]="core backend temporal unet3d"
    [encode]="core backend encode"
    [review]="core encode review"
    [video]="core backend text temporal unet3d encode video"
    [cli]="core backend text temporal unet3d encode review video cli"
)
count=0
for folder in "${!allowed[@]}"; do
    while IFS=: read -r file _ include; do
        count=$((count + 1))
        target=${include#*\"}
        target=${target%%/*}
        case " ${allowed[$folder]} " in
        *" $target "*) ;;
        *)
            echo "$file includes from $target/, which is not below $folder/"
            failures=$((failures + 1))
            ;;
        esac
    done < <(grep -rn --include='*.[ch]' '^#include "' "$folder")
done

# PATTERN may occur only below FOLDER.
only_in() {
    local pattern=$1 folder=$2 found
    found=$(grep -rlE --include='*.[ch]' --include='*.cu' "$pattern" core backend text temporal unet3d encode \
        review video cli | grep -v "^$folder" || true)
    if [ -n "$found" ]; then
        echo "only $folder may match $pattern: $found"
        failures=$((failures + 1))
    fi
}
only_in '#include .*(dnnl|oneapi)' backend/cpu/
only_in '#include .*(cuda|cudnn|cublas)' backend/cuda/
only_in '#include <libav|#include <libsw' encode/
only_in '#include .*cJSON' core/json
only_in '#include .*utf8proc' text/
only_in '#if.*VD_(WITH|HAVE)_(CPU|CUDA)' backend/backend.c

if [ "$count" -lt 100 ]; then
    echo "only $count includes seen: the check itself is broken"
    failures=$((failures + 1))
fi
echo "$count includes, $failures failures"
[ "$failures" -eq 0 ]
