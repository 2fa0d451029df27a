"""stories260K end to end: the golden text from GGUF and from safetensors, and an error past the context."""
import json
import os
import shutil
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from common import ROOT, SHARED, check, need, read_npy, tessera, write_npy_i32

data = os.path.join(SHARED, "data", "models", "stories260K")
need(data, "the model")
work = tempfile.mkdtemp()
try:
    with open(os.path.join(data, "greedy200.txt"), encoding="utf-8") as f:
        want = f.read().strip()
    _, ids = read_npy(os.path.join(data, "greedy_ids.npy"))
    spec = os.path.join(ROOT, "specs", "models", "stories260k.yaml")
    gguf, safetensors = os.path.join(data, "stories260K-f32.gguf"), os.path.join(data, "stories260K.safetensors")
    for name, args in (("gguf", [gguf, "--set", "context=512"]), ("safetensors", [spec, "--weights", safetensors])):
        tsr = os.path.join(work, f"{name}.tsr")
        tessera("compile", *args, "-o", tsr, "--target", "host", "--quiet")
        # logits of every position, against float64
        tokens, out = os.path.join(work, "t.npy"), os.path.join(work, "l.npy")
        write_npy_i32(tokens, (1, 8), ids[:8])
        tessera("run", tsr, "--function", "score", "--input", f"tokens={tokens}", "--output", f"logits={out}")
        _, logits = read_npy(os.path.join(data, "logits_f64_first8.npy"))
        _, got = read_npy(out)
        error = max(abs(a - b) for a, b in zip(logits, got))
        check(error <= 2.5e-4, f"{name}: logits differ by {error}")
        print(f"{name}: logits within {error:.1e}")
    tsr = os.path.join(work, "gguf.tsr")
    made = json.loads(tessera("generate", tsr, "--prompt", "", "-n", "200", "--ignore-stop", "--json"))
    check(made["generated_ids"] == list(ids[1:201]), "the 200 greedy ids")
    check(made["text"].strip() == want, f"the text: {made['text']}")
    message = tessera("generate", tsr, "--prompt", "", "-n", "600", "--ignore-stop", "--json", code=2)
    check("context holds 512" in message, f"past the context: {message}")
    print("ok")
finally:
    shutil.rmtree(work)
