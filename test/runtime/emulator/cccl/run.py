#!/usr/bin/env python3
"""Compiles kernels.cu with the toolkit's nvcc and runs every kernel of it in every mode of the emulator.

    run.py --libcuda build/lib/emulator/libcuda.so.1 --work build/test/cccl [--nvcc NVCC] [--seeds 2]

Each must give what Python computes here, without a finding. The PTX is kept in the work folder and made again when the
source has changed. Exit 77 (skipped), with the reason, where there is no nvcc.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "kernels"))
import run as collection  # noqa: E402

THREADS = 128


def wrapped(value):
    """As an int of 32 bits."""
    return (value + 2**31) % 2**32 - 2**31


def cases():
    """(kernel, type, input, expected, further arguments)."""
    rng = random.Random(5)
    one = [rng.randrange(-1000, 1000) for _ in range(THREADS)]
    two = [rng.randrange(-1000, 1000) for _ in range(2 * THREADS)]
    for name in ("reduce_raking", "reduce_warps", "reduce_commutative"):
        yield name, "i32", one, [sum(one), max(one)], []
    for name in ("scan_raking", "scan_warps"):
        yield name, "i32", two, [sum(two[:i]) for i in range(len(two))], []
    keys = [rng.randrange(2**32) for _ in range(2 * THREADS)]
    yield "radix_sort", "u32", keys, sorted(keys), []
    values = list(one)
    for _ in range(4):
        values = [wrapped(values[i] * 3 + values[(i + 1) % THREADS]) for i in range(THREADS)]
    yield "barrier_phases", "i32", one, values, []
    tiles = 5
    many = [rng.randrange(-1000, 1000) for _ in range(tiles * THREADS)]
    sums = [sum(many[t * THREADS + THREADS - 1 - i] * (t + 1) for t in range(tiles)) for i in range(THREADS)]
    yield "pipeline_stages", "i32", many, sums, [tiles]
    yield "copy_to_barrier", "i32", one, [one[(i + 17) % THREADS] for i in range(THREADS)], []
    yield "bulk_to_barrier", "i32", one, [one[(i + 5) % THREADS] for i in range(THREADS)], []


def compiled(nvcc, target, work):
    """The PTX for `target`, from the work folder when source and compiler are the same."""
    source = HERE / "kernels.cu"
    key = hashlib.sha256(source.read_bytes() + str(Path(nvcc).resolve()).encode()).hexdigest()[:16]
    ptx = work / f"kernels-{target}-{key}.ptx"
    if not ptx.exists():
        work.mkdir(parents=True, exist_ok=True)
        made = ptx.with_suffix(".tmp")
        subprocess.run([nvcc, "-std=c++17", f"-arch={target}", "-ptx", "-o", made, source], check=True)
        made.rename(ptx)
    return ptx.read_text()


def run_here(options):
    """All kernels in this process; the settings are those of the environment."""
    driver = collection.Driver(options.libcuda)
    failed = 0
    for target in ("sm_80", "sm_90a"):
        text = compiled(options.nvcc, target, options.work)
        for kernel, kind, values, expected, more in cases():
            if f".entry {kernel}(" not in text:
                assert kernel == "bulk_to_barrier" and target == "sm_80", f"{kernel} is missing in the PTX for {target}"
                continue
            case = dict(kernel=kernel, grid=[1, 1, 1], block=[THREADS, 1, 1])
            case["buffers"] = dict(a=dict(type=kind, **{"in": values}), b=dict(type=kind, **{"in": [0] * len(expected)}, out=expected))
            case["arguments"] = [dict(buffer="a"), dict(buffer="b")] + [dict(type="i32", value=value) for value in more]
            try:
                problems = collection.run(driver, case, text)
            except RuntimeError as error:
                problems = [str(error)]
            if problems:
                failed += 1
                print(f"{kernel} ({target}): {'; '.join(problems[:3])}")
    return 1 if failed else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--libcuda", required=True)
    parser.add_argument("--work", type=Path, required=True, help="folder for the PTX")
    parser.add_argument("--nvcc", default=shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--here", action="store_true", help="in this process, in the mode of the environment")
    options = parser.parse_args()
    if not shutil.which(options.nvcc):
        print(f"skipped: no CUDA toolkit here ({options.nvcc} is not to be found)")
        return 77
    if options.here:
        return run_here(options)
    for target in ("sm_80", "sm_90a"):
        compiled(options.nvcc, target, options.work)
    modes = list(collection.modes(options.seeds))
    failed = 0
    for mode in modes:
        environment = dict(os.environ, MOE_EMU_FINDING_EXIT="3", **mode)
        done = subprocess.run([sys.executable, __file__, "--here", *sys.argv[1:]], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            failed += 1
            print(f"{json.dumps(mode)}: exit {done.returncode}\n{done.stdout[-2000:]}")
    print(f"{len(modes)} modes, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
