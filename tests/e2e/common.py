"""Helpers of the end-to-end tests: the command line is driven as a user drives it; nothing but Python's library is needed."""
import array
import ast
import json
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TESSERA = os.environ.get("TESSERA_TOOL", os.path.join(ROOT, "build", "tessera"))
SHARED = os.environ.get("TESSERA_SHARED", os.path.join(ROOT, "..", "shared"))
MODEL = os.environ.get("TESSERA_SMOLLM2", os.path.join(ROOT, ".deps", "models", "SmolLM2-135M-Instruct.Q4_1.gguf"))
SKIP = 77   # ctest's exit code for a skipped test


def need(path, what):
    if not os.path.exists(path):
        print(f"SKIP: {what} is not here ({path})")
        sys.exit(SKIP)


def tessera(*args, code=0, text=None):
    """Runs the command; gives standard output. Any other exit code than `code` fails the test."""
    p = subprocess.run([TESSERA, *args], input=text, capture_output=True, text=True, timeout=600)
    if p.returncode != code:
        sys.exit(f"tessera {' '.join(args)[:200]}: exit code {p.returncode}, expected {code}\n{p.stderr}")
    return p.stdout if code == 0 else p.stderr


def read_npy(path):
    """(shape, values) of a little-endian f4, f8, i4 file in C order."""
    with open(path, "rb") as f:
        data = f.read()
    n = int.from_bytes(data[8:10], "little")
    head = ast.literal_eval(data[10:10 + n].decode())
    kind = {"<f4": "f", "<f8": "d", "<i4": "i"}[head["descr"]]
    assert not head["fortran_order"]
    values = array.array(kind)
    values.frombytes(data[10 + n:])
    return head["shape"], values


def write_npy_i32(path, shape, values):
    head = f"{{'descr': '<i4', 'fortran_order': False, 'shape': {tuple(shape)!r}, }}"
    head += " " * ((64 - (10 + len(head) + 1) % 64) % 64) + "\n"
    with open(path, "wb") as f:
        f.write(b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head.encode() + array.array("i", values).tobytes())


def check(condition, what):
    if not condition:
        sys.exit(f"FAILED: {what}")


def load_json(path):
    with open(path, encoding="utf-8") as f:
        return json.load(f)
