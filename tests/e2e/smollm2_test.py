"""SmolLM2-135M-Instruct end to end: token ids, logits against a float64 oracle, greedy text, and faults that must be noticed."""
import os
import shutil
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from common import MODEL, SHARED, check, load_json, need, read_npy, tessera, write_npy_i32
import json

data = os.path.join(SHARED, "data", "smollm2")
need(MODEL, "the model (scripts/setup.sh model)")
need(data, "the golden data")
work = tempfile.mkdtemp()
try:
    tsr = os.path.join(work, "m.tsr")
    tessera("compile", MODEL, "-o", tsr, "--target", "host", "--quiet")
    tessera("inspect", tsr, "--verify")

    strings = load_json(os.path.join(data, "tokenization.json"))
    strings = strings if isinstance(strings, list) else strings["strings"]
    for s in strings:
        for key, flags in (("ids_special", []), ("ids_plain", ["--plain"])):
            got = json.loads(tessera("tokenize", tsr, "-", "--json", *flags, text=s["text"]))["ids"]
            check(got == s[key], f"ids of {s['text']!r}: {got} instead of {s[key]}")
    print(f"token ids of {len(strings)} strings are exact")

    golden = load_json(os.path.join(data, "golden_exact.json"))
    golden = golden.get("prompts", golden)
    # ten times the measured error of float32 arithmetic against the oracle (3e-5)
    bound = 3e-4
    worst = 0.0
    for name, g in golden.items():
        ids = g["ids"]
        tokens, out = os.path.join(work, "t.npy"), os.path.join(work, "l.npy")
        write_npy_i32(tokens, (1, len(ids)), ids)
        tessera("run", tsr, "--function", "prefill", "--input", f"tokens={tokens}", "--output", f"logits={out}")
        _, want = read_npy(os.path.join(data, f"{name}_last_logits_exact_f64math.npy"))
        _, got = read_npy(out)
        error = max(abs(a - b) for a, b in zip(want, got))
        worst = max(worst, error)
        check(error <= bound, f"prompt {name}: logits differ by {error}")
        made = json.loads(tessera("generate", tsr, "--prompt", g["text"], "-n", "32", "--ignore-stop", "--json"))
        check(made["prompt_ids"] == ids, f"prompt {name}: ids")
        check(made["generated_ids"] == g["greedy_ids"], f"prompt {name}: greedy ids {made['generated_ids']}")
    print(f"logits within {worst:.2e} of the oracle, greedy ids equal")

    _, want = read_npy(os.path.join(data, "a_all_logits_exact_f64math.npy"))
    ids = golden["a"]["ids"]
    write_npy_i32(tokens, (1, len(ids)), ids)
    tessera("run", tsr, "--function", "score", "--input", f"tokens={tokens}", "--output", f"logits={out}")
    _, got = read_npy(out)
    check(max(abs(a - b) for a, b in zip(want, got)) <= bound, "logits at every position")

    # faults must be seen: another eps, another theta, the wrong pairing
    text = os.path.join(work, "text.txt")
    with open(text, "w") as f:
        f.write("The quick brown fox jumps over the lazy dog. " * 8)
    right = json.loads(tessera("score", tsr, "--text", text, "--json"))["nll_per_token"]
    # (positions of a few tokens hardly depend on theta: 1,000 tokens, against the artifact that was just compared with the oracle)
    ids = [i for name in sorted(golden) for i in golden[name]["ids"]]
    ids = (ids * 1000)[:1000]
    write_npy_i32(tokens, (1, len(ids)), ids)
    tessera("run", tsr, "--function", "prefill", "--input", f"tokens={tokens}", "--output", f"logits={out}")
    _, last = read_npy(out)
    for change in ("theta=99990", "eps=1e-6", "pairs=half"):
        bad = os.path.join(work, "bad.tsr")
        tessera("compile", MODEL, "-o", bad, "--target", "host", "--quiet", "--set", change)
        tessera("run", bad, "--function", "prefill", "--input", f"tokens={tokens}", "--output", f"logits={out}")
        _, got = read_npy(out)
        print(f"{change}: logits move by {max(abs(a - b) for a, b in zip(last, got)):.1e}")
        check(max(abs(a - b) for a, b in zip(last, got)) > bound, f"the fault {change} was not noticed")
        if change == "pairs=half":
            wrong = json.loads(tessera("score", bad, "--text", text, "--json"))["nll_per_token"]
            check(wrong > right + 0.5, f"the wrong pairing scores {wrong}, the right one {right}")
    print(f"planted faults are noticed; score {right:.4f} a token")

    s8 = os.path.join(work, "s8.tsr")
    tessera("compile", MODEL, "-o", s8, "--target", "host", "--quiet", "--set", "compile.activations=s8_block32")
    quantized = json.loads(tessera("score", s8, "--text", text, "--json"))["nll_per_token"]
    check(abs(quantized - right) < 0.1, f"8-bit activations: {quantized} against {right}")

    # equal inputs, equal bytes, whatever the jobs and the cache
    again = os.path.join(work, "again.tsr")
    tessera("compile", MODEL, "-o", again, "--target", "host", "--quiet", "--jobs", "1", "--no-cache")
    with open(tsr, "rb") as a, open(again, "rb") as b:
        check(a.read() == b.read(), "artifacts of --jobs 1 and of all jobs differ")
    print("ok")
finally:
    shutil.rmtree(work)
