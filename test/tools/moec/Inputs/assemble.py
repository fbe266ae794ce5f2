#!/usr/bin/env python3
"""Assembles PTX with NVIDIA's ptxas and fails if a kernel spills, keeps anything on a stack, or has its wgmma serialised.

    assemble.py PTX...

The architecture is the one that the text names. Prints the registers of every kernel.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

problems = 0
for path in map(Path, sys.argv[1:]):
    arch = re.search(r"^\.target (\w+)", path.read_text(), re.M).group(1)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as cubin:
        run = subprocess.run(["ptxas", f"-arch={arch}", "-v", str(path), "-o", cubin.name], capture_output=True, text=True)
    text = run.stdout + run.stderr
    if run.returncode:
        sys.exit(f"{path}: ptxas failed\n{text}")
    kernel, kernels = "", 0
    for line in text.splitlines():
        if found := re.search(r"Compiling entry function '(\w+)'", line):
            kernel = found.group(1)
        elif found := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line):
            if any(int(count) for count in found.groups()):
                problems += 1
                print(f"{path}: {kernel}: {line.strip()}")
        elif found := re.search(r"Used (\d+) registers", line):
            kernels += 1
            print(f"{arch} {kernel} {found.group(1)} registers")
        elif re.search(r"warning|C75\d\d", line):
            problems += 1
            print(f"{path}: {line.strip()}")
    if kernels == 0:
        sys.exit(f"{path}: ptxas says nothing of any kernel\n{text}")
sys.exit(1 if problems else 0)
