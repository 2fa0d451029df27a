"""The command line's manners: help, exit codes, located errors. Needs no data."""
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from common import TESSERA, check, tessera

commands = ["compile", "run", "generate", "tokenize", "score", "bench", "inspect", "doctor"]
for c in commands:
    text = tessera(c, "--help")
    check(f"usage: tessera {c}" in text and "example:" in text, f"help of {c}")
listing = tessera("--help")
for c in commands:
    check(f"  {c} " in listing, f"{c} is listed")
check("did you mean 'compile'" in tessera("compil", code=2), "a suggestion for a command")
check("did you mean '--output'" in tessera("compile", "--outptu", code=2), "a suggestion for an option")
check("needs a value" in tessera("generate", "--prompt", code=2), "an option without its value")
check("is not a number" in tessera("bench", "x.tsr", "--threads", "many", code=2), "a number that is none")
check("error[" in tessera("inspect", "/nonexistent.tsr", code=2), "a file that is not there")
with tempfile.TemporaryDirectory() as d:
    bad = os.path.join(d, "bad.yaml")
    with open(bad, "w") as f:
        f.write("tessera: 1\nmodel: m\nparms: {}\n")
    message = tessera("compile", bad, code=2)
    check(f"{bad}:3:1: error[" in message and "params" in message, f"a located error: {message}")
    for size in (0, 1, 7, 64, 300):
        junk = os.path.join(d, "junk.tsr")
        with open(junk, "wb") as f:
            f.write(b"TESSERA\x1a" * (size // 8 + 1))
            f.truncate(size)
        p = subprocess.run([TESSERA, "inspect", junk], capture_output=True, text=True)
        check(p.returncode == 2 and "error[" in p.stderr, f"junk of {size} bytes: {p.returncode} {p.stderr}")
    check(tessera("doctor", "--json").startswith("{\"schema\": 1"), "doctor in JSON")
print("ok")
