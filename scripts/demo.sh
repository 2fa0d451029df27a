#!/usr/bin/env bash
# The main job on a real model: compile SmolLM2-135M-Instruct into one artifact, answer a prompt, show where everything is.
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build}
tessera=$build/tessera
model=.deps/models/SmolLM2-135M-Instruct.Q4_1.gguf
out=.demo
prompt=${PROMPT:-"Name three rivers of Europe."}
mkdir -p "$out"

echo "== compile $model" >&2
"$tessera" compile "$model" -o "$out/smollm2.tsr" --target host --target sm_80 --target sm_90 --target sm_120
if [ ! -f "$out/dumps/03-launch.launch.tir" ] || [ "$tessera" -nt "$out/dumps/03-launch.launch.tir" ]; then
  "$tessera" compile "$model" --target host:avx512_vnni --target sm_80 --dump-dir "$out/dumps" --explain --quiet > "$out/explain.txt"
fi

echo "== answer: $prompt" >&2
"$tessera" generate "$out/smollm2.tsr" --chat --prompt "$prompt" -n 80 --stats

cat >&2 <<TEXT

== what was made
  artifact             $out/smollm2.tsr            (tessera inspect $out/smollm2.tsr --kernels)
  IR after every pass  $out/dumps/NN-pass.LEVEL.tir
  every kernel         $out/dumps/kernels/NAME.{tile.tir,scheduled.tir,LEVEL.ll,LEVEL.s}
  CUDA sources and PTX $out/dumps/cuda/kernels/NAME.{cu,sm_80.ptx}
  why, pass by pass    $out/explain.txt
TEXT
