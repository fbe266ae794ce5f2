"""Lowers moe IR with moe-opt and runs its @main with the distribution's LLVM tools alone.

    run_main.py FILE [--with MAIN]      MAIN: further functions in linalg-level IR, added after the lowering

What @main prints comes out, without the addresses.
"""

import os
import re
import shutil
import subprocess
import sys

PASSES = ("builtin.module(one-shot-bufferize{bufferize-function-boundaries},convert-linalg-to-loops,"
          "expand-strided-metadata,lower-affine,convert-scf-to-cf,arith-expand{include-bf16=true},convert-math-to-llvm,"
          "convert-math-to-libm,convert-to-llvm,reconcile-unrealized-casts)")


def tool(name):
    found = shutil.which(f"{name}-22") or shutil.which(name)
    return found or sys.exit(f"{name}-22 is not installed: install mlir-22-tools")


def run(command, text):
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{command[0]} failed ({done.returncode}):\n{done.stderr}")
    return done.stdout


def main():
    path, *rest = sys.argv[1:]
    linalg = run(["moe-opt", "--moe-to-linalg", path], None)
    if rest:
        with open(rest[1]) as file:
            # Both in one module: drop the wrapper that moe-opt prints.
            linalg = re.sub(r"^module \{$|^\}$", "", linalg, flags=re.M) + file.read()
    llvm = run([tool("mlir-opt"), f"--pass-pipeline={PASSES}"], linalg)
    folder = os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(tool("mlir-opt")))), "lib")
    libraries = ",".join(os.path.join(folder, f"libmlir_{name}_utils.so") for name in ("runner", "c_runner"))
    printed = run([tool("mlir-runner"), "-e", "main", "-entry-point-result=void", f"-shared-libs={libraries}"], llvm)
    print(re.sub(r"base@ = \S+ ", "", printed))


if __name__ == "__main__":
    main()
