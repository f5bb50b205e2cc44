#!/usr/bin/env bash
# Installs the packages of the lists named (build, test, lint) that are missing, with apt.
# Usage: tools/install_packages.sh build [test] [lint]
set -euo pipefail

build=(gcc libc6-dev cmake ninja-build pkg-config libdnnl-dev libcjson-dev libutf8proc-dev
       libavcodec-dev libavformat-dev libavutil-dev libswscale-dev)
test=(ffmpeg chromium slurm-wlm munge)
lint=(clang-format clang-tidy libomp-dev)

missing=()
for list in "$@"; do
    declare -n packages=$list
    for package in "${packages[@]}"; do
        # Ubuntu's chromium is a snap: there the browser's test says that it is skipped.
        if [ "$package" = chromium ] && grep -q '^ID=ubuntu' /etc/os-release; then
            continue
        fi
        # Slurm and munge are services: not for a machine that runs such, whose test says that it is skipped.
        if [[ $package = slurm-wlm || $package = munge ]] && [ -d /run/systemd/system ]; then
            continue
        fi
        if ! dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed'; then
            missing+=("$package")
        fi
    done
done
if [ ${#missing[@]} -eq 0 ]; then
    echo "packages ($*): all there"
    exit 0
fi

echo "packages ($*): installing ${missing[*]}"
as_root=()
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || {
        echo "tools/install_packages.sh: needs root or sudo to install: ${missing[*]}" >&2
        exit 1
    }
    as_root=(sudo)
fi
# What Debian asks before it starts a service: none is, in a container neither.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    trap '"${as_root[@]}" rm -f $policy' EXIT
    "${as_root[@]}" sh -c "printf '#!/bin/sh\nexit 101\n' >$policy && chmod 755 $policy"
fi
"${as_root[@]}" apt-get update -q
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q \
    --no-install-recommends "${missing[@]}"
