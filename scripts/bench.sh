#!/usr/bin/env bash
# Benchmarks of the language-model road: ours with exact and with 8-bit activations, 1 and 2 threads, interleaved (A B A B). With
# LLAMA_BENCH=/path/to/llama-bench the peer runs in between, on the same file.
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build}
tessera=$build/tessera
model=${MODEL:-.deps/models/SmolLM2-135M-Instruct.Q4_1.gguf}
out=.demo
mkdir -p "$out"
"$tessera" compile "$model" -o "$out/bench-exact.tsr" --target host --quiet
"$tessera" compile "$model" -o "$out/bench-s8.tsr" --target host --quiet --set compile.activations=s8_block32
for round in 1 2 3; do
  for threads in 1 2; do
    for form in exact s8; do
      printf 'round %d, %d threads, %-5s ' "$round" "$threads" "$form"
      "$tessera" bench "$out/bench-$form.tsr" --threads "$threads" --repeat 3 --json
    done
    if [ -n "${LLAMA_BENCH:-}" ]; then
      printf 'round %d, %d threads, peer  ' "$round" "$threads"
      "$LLAMA_BENCH" -m "$model" -p 256 -n 64 -t "$threads" -r 3 -o json | python3 -c \
        'import json,sys; print({("prefill" if r["n_prompt"] else "decode"): round(r["avg_ts"], 1) for r in json.load(sys.stdin)})'
    fi
  done
done
