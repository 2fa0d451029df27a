"""The house: folders include only what the arrows allow, and docs/diagnostics.md lists every kind. Needs no data.

TESSERA_WRITE_DOCS=1 writes the page anew."""
import glob
import os
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from common import ROOT, check

# What a folder may include besides itself. codegen and emulator have parts that stand beside each other.
ARROWS = {
    "base": set(),
    "ir": {"base"},
    "text": {"base"},
    "frontend": {"base", "ir", "text"},
    "passes": {"base", "ir"},
    "codegen": {"base", "ir", "runtime/tsr_format.h"},
    "runtime": {"base"},
    "emulator": {"base"},
    "drive": {"base", "ir", "text", "frontend", "passes", "codegen", "runtime"},
}
for folder, allowed in ARROWS.items():
    files = [f for ext in ("c", "h", "def", "inc") for f in glob.glob(os.path.join(ROOT, folder, "**", f"*.{ext}"), recursive=True)]
    check(len(files) > 3, f"{folder} has sources")
    for path in files:
        with open(path, encoding="utf-8") as f:
            text = f.read()
        for name in re.findall(r'^\s*#\s*include "([^"]+)"', text, re.M):
            to = name.split("/")[0]
            fine = "/" not in name or to == folder or to in allowed or name in allowed
            check(fine, f"{os.path.relpath(path, ROOT)} includes {name}: {folder} may include {sorted(allowed)}")
            if folder == "codegen":   # the back ends know nothing of each other
                side = os.path.relpath(path, os.path.join(ROOT, folder)).split(os.sep)[0]
                other = name.split("/")[1] if to == folder and name.count("/") > 1 else side
                check(side not in ("host", "cuda") or other == side, f"{path} includes {name}")

page = ["# Diagnostics", "", "Every kind that a message can show as `error[name]`, by folder. Made from the `*diag.def` files by tests/e2e/house_test.py.", ""]
for folder in sorted(ARROWS | {"tools": None}):
    rows = []
    for path in sorted(glob.glob(os.path.join(ROOT, folder, "**", "*diag.def"), recursive=True)):
        with open(path, encoding="utf-8") as f:
            text = f.read()
        for name, severity, doc in re.findall(r'^TS_DIAG\((\w+),\s*(\w+),\s*\w+,\s*"((?:[^"\\]|\\.)*)"\)', text, re.M):
            rows.append(f"| `{name.replace('_', '-')}` | {severity.lower()} | {doc} |")
        check(text.count("\nTS_DIAG(") + text.startswith("TS_DIAG(") <= len(rows), f"{path}: a row was not understood")
    if rows:
        page += [f"## {folder}", "", "| name | severity | meaning |", "| --- | --- | --- |", *rows, ""]
text = "\n".join(page)
path = os.path.join(ROOT, "docs", "diagnostics.md")
if os.environ.get("TESSERA_WRITE_DOCS"):
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
with open(path, encoding="utf-8") as f:
    check(f.read() == text, "docs/diagnostics.md is not what the tables say: TESSERA_WRITE_DOCS=1 tests/e2e/house_test.py")
print("ok")
