#!/usr/bin/env python3
"""Stands in for NVIDIA's ptxas: writes a file that begins as a cubin does, or does what MOE_TEST_PTXAS says.

    MOE_TEST_PTXAS=fail: an error   text: output that is no ELF file   spill: says that a kernel spills
"""

import os
import sys

what = os.environ.get("MOE_TEST_PTXAS", "")
arguments = sys.argv[1:]
output = arguments[arguments.index("-o") + 1]
source = next(a for a in arguments if a.endswith(".ptx"))
arch = next(a.split("=")[1] for a in arguments if a.startswith("-arch="))
with open(source) as file:
    text = file.read()
if f".target {arch}" not in text or "-v" not in arguments:
    sys.exit(f"ptxas fatal: {arch} is not the target of {source}")
if what == "fail":
    sys.exit("ptxas error: no room for registers\nptxas fatal: aborted")
if what == "spill":
    print("ptxas info    : Compiling entry function 'rope_bf16' for 'sm_80'")
    print("    8 bytes stack frame, 8 bytes spill stores, 8 bytes spill loads")
    print("ptxas warning : (C7510) Potential Performance Loss: wgmma.mma_async instructions are serialized")
with open(output, "wb") as file:
    file.write(b"no cubin" if what == "text" else b"\x7fELF" + arch.encode())
