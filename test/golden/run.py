#!/usr/bin/env python3
"""Runs every golden fixture through the tools a user runs, and judges the logits. Needs numpy, nothing else.

    moec compile FIXTURE -o PKG --dtype D;  moe-run logits PKG --ids-file IDS -o out.npy [feeding flags]

Each fixture is compiled for f32 and for bf16. The sequences are then fed in several ways that must make no difference:
all at once, token by token, in random ragged chunks, and with the sequences interleaved in one batch. Bounds:
compare.py. One line per fixture, type and way; a summary line; exit code 1 if anything failed or nothing ran.

    run.py                                      all committed fixtures, with build/bin/moec and build/bin/moe-run
    run.py --filter 'mixtral-*' --dtype f32     some of them
    run.py --reference DIR...                   references from elsewhere: DIR holds ids.json and logits.npy; the
                                                checkpoint is DIR itself or, when DIR has no config.json, its parent
"""

import argparse
import concurrent.futures
import fnmatch
import json
import os
import pathlib
import shlex
import subprocess
import sys
import tempfile
import time

import numpy as np

import compare

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
# Way of feeding -> flags of `moe-run logits`. Ragged: the sequences advance together, each by a random count per step.
WAYS = {
    "one-step": [],
    "token-by-token": ["--chunks", "1"],
    "ragged-chunks": ["--chunks", "random", "--seed", "5"],
    "interleaved": ["--interleave", "3"],
    "ragged-interleaved": ["--chunks", "random", "--interleave", "3", "--seed", "11"],
}


class Fixture:
    """A checkpoint (or a file of moe IR), the ids to feed and the logits to expect."""

    def __init__(self, folder):
        self.folder = folder
        self.name = folder.name
        meta = json.loads((folder / "meta.json").read_text()) if (folder / "meta.json").exists() else {}
        self.rows = meta.get("rows")
        self.dtypes = ["f32", "bf16"]
        if "checkpoint" in meta:
            self.source = self.weights = ROOT / meta["checkpoint"]
        elif (folder / "model.mlir").exists():
            # IR says its own types, so `--dtype` has nothing to choose.
            self.source, self.weights, self.dtypes = folder / "model.mlir", folder, ["f32"]
        elif (folder / "config.json").exists():
            self.source = self.weights = folder
        else:
            self.source = self.weights = folder.parent
            self.name = f"{folder.parent.name}/{folder.name}"
        self.ids = folder / "ids.json"
        self.logits = np.load(folder / "logits.npy")


class Failure(Exception):
    """A tool failed; the message is the command and the end of what it said."""


def run_tool(command, timeout):
    try:
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        raise Failure(f"{shlex.join(map(str, command))}\n      took longer than {timeout} s") from None
    if done.returncode != 0:
        said = "\n      ".join((done.stderr.strip() or done.stdout.strip()).splitlines()[-6:])
        raise Failure(f"{shlex.join(map(str, command))}\n      exit code {done.returncode}: {said}")


def run_fixture(fixture, args):
    """[(dtype, way, error or None, figures)] of one fixture; runs its steps in order in a folder of its own."""
    results = []
    with tempfile.TemporaryDirectory(prefix="golden-") as scratch:
        scratch = pathlib.Path(scratch)
        for dtype in [d for d in fixture.dtypes if d in args.dtype]:
            package = scratch / f"{dtype}.moe"
            try:
                flags = ["--weights", fixture.weights] if fixture.source.suffix == ".mlir" else ["--dtype", dtype]
                run_tool([args.moec, "compile", fixture.source, "-o", package, *flags, *args.compile_flag], args.timeout)
            except Failure as failure:
                results.append((dtype, "compile", str(failure), ""))
                continue
            for way in args.ways:
                results.append((dtype, way, *judge(fixture, package, dtype, way, scratch / "out.npy", args)))
    return results


def judge(fixture, package, dtype, way, out, args):
    try:
        out.unlink(missing_ok=True)
        run_tool([args.moe_run, "logits", package, "--ids-file", fixture.ids, "--weights", fixture.weights, "-o", out,
                  *WAYS[way]], args.timeout)
        logits = np.load(out)
        if fixture.rows is not None:
            total = sum(map(len, json.loads(fixture.ids.read_text())))
            if logits.shape[0] != total:
                raise compare.Mismatch(f"{logits.shape[0]} rows for {total} tokens")
            logits = logits[fixture.rows]
        check = compare.compare_f32 if dtype == "f32" else compare.compare_bf16
        return None, check(fixture.logits, logits)
    except (Failure, compare.Mismatch, OSError, ValueError) as error:
        return str(error) or type(error).__name__, ""


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moec", default=ROOT / "build/bin/moec", type=pathlib.Path)
    parser.add_argument("--moe-run", default=ROOT / "build/bin/moe-run", type=pathlib.Path)
    parser.add_argument("--fixtures", default=HERE / "fixtures", type=pathlib.Path, help="folder of fixtures")
    parser.add_argument("--reference", nargs="+", type=pathlib.Path, help="reference folders instead of the fixtures")
    parser.add_argument("--filter", default="*", help="glob over fixture names")
    parser.add_argument("--dtype", nargs="+", default=["f32", "bf16"], choices=["f32", "bf16"])
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--compile-flag", action="append", default=[], help="further flag for moec compile (repeat)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="fixtures at once")
    parser.add_argument("--timeout", type=float, default=300, help="seconds for one tool")
    parser.add_argument("--quiet", action="store_true", help="print failures and the summary only")
    parser.add_argument("--json", type=pathlib.Path, help="write every result to this file")
    args = parser.parse_args(argv)

    folders = args.reference or sorted(p.parent for p in args.fixtures.glob("*/ids.json"))
    fixtures = [f for f in map(Fixture, (p.resolve() for p in folders)) if fnmatch.fnmatch(f.name, args.filter)]
    passed, failed, records, start = 0, 0, [], time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(max(1, args.jobs)) as pool:
        for fixture, results in zip(fixtures, pool.map(lambda f: run_fixture(f, args), fixtures)):
            for dtype, way, error, figures in results:
                passed, failed = passed + (not error), failed + bool(error)
                records.append({"name": f"{fixture.name}/{dtype}/{way}", "status": "failed" if error else "passed",
                                "error": error, "figures": figures})
                if error or not args.quiet:
                    print(f"{'FAIL' if error else 'ok  '} {fixture.name:22} {dtype:4} {way:18} {error or figures}", flush=True)
    if args.json:
        args.json.write_text(json.dumps({"passed": passed, "failed": failed, "cases": records}, indent=1) + "\n")
    print(f"golden: {passed} passed, {failed} failed ({len(fixtures)} fixtures, {time.monotonic() - start:.0f} s)")
    return 0 if passed and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
