#!/usr/bin/env python3
"""Asks ptxas about every form of the instruction table, and ptx-check about the same text.

    judge.py --ptxas ptxas --samples build/bin/make-ptx-samples --check build/bin/ptx-check [--target sm_90a]

Prints what one accepts and the other refuses. Not part of the test suite: that needs no CUDA toolkit.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

VERSION = "9.0"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ptxas", required=True)
    parser.add_argument("--samples", required=True)
    parser.add_argument("--check", required=True)
    parser.add_argument("--target", default="sm_90a")
    options = parser.parse_args()
    lines = subprocess.run([options.samples], check=True, stdout=subprocess.PIPE, text=True).stdout
    rows, module = lines.split("module\t\t")
    samples, gated = [], set()
    number, suffix = int(re.match(r"sm_(\d+)", options.target)[1]), options.target.endswith("a")
    for i, row in enumerate(rows.splitlines()):
        _, sm, text = row.split("\t")
        samples.append(text)
        if int(sm.rstrip("a")) > number or (sm.endswith("a") and not suffix):
            gated.add(i)
    module = re.sub(r"\.version [\d.]+", f".version {VERSION}", module).replace("TARGET", options.target)
    head, tail = module.split("INSTRUCTION")
    first = head.count("\n") + 1

    def everything(left_out):
        return head + "\n".join("" if i in left_out else s for i, s in enumerate(samples)) + tail

    # ptxas gives one error per line, but not of all kinds at once: lines that it refused are taken out and it runs again.
    refused = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "all.ptx"
        while True:
            path.write_text(everything(refused))
            command = [options.ptxas, f"-arch={options.target}", str(path), "-o", str(Path(folder) / "out")]
            errors = subprocess.run(command, stderr=subprocess.STDOUT, stdout=subprocess.PIPE, text=True)
            found = {int(m[1]) - first: m[2] for m in re.finditer(r"line (\d+); (?:error|fatal)\s*: (.*)", errors.stdout)}
            refused.update(found)
            if not found:
                break
        if errors.returncode:
            raise SystemExit("ptxas failed: " + "\n".join(e for e in errors.stdout.splitlines() if "warning" not in e)[:800])
        path.write_text(everything(gated))
        ours = subprocess.run([options.check, "--quiet", "--target", options.target, str(path)], stderr=subprocess.PIPE, text=True)
    for i in sorted(set(refused) - gated):
        print(f"ptxas refuses: {samples[i]}\n    {refused[i]}")
    for i in sorted(gated - set(refused)):
        print(f"ptxas accepts for {options.target}: {samples[i]}")
    print(ours.stderr, end="")
    differ = len(set(refused) ^ gated)
    print(f"{options.target}: {len(samples)} samples, {len(gated)} of them for later targets; ptxas differs on {differ}")
    return 1 if differ or ours.returncode else 0


if __name__ == "__main__":
    sys.exit(main())
