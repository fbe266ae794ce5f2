"""The golden fixtures (test/golden: logits of the official classes) through the linalg path.

    check_goldens.py [--filter GLOB...] [--backend native|iree] [--dtype f32|bf16] [--step N]

The same fixtures judge the kernel path in test/golden/run.py, with the same bounds: what both pass, both mean.
"""

import argparse
import concurrent.futures
import fnmatch
import json
import os
import pathlib
import sys
import tempfile

import numpy as np

from backends import BACKENDS, execute
from run_linalg import run
from tensors import Checkpoint

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "test" / "golden"))
import compare  # noqa: E402  (the judge of the golden tests)


def check(folder, options):
    """(name, figures or what is wrong, whether it is right) of one fixture."""
    meta = json.loads((folder / "meta.json").read_text())
    source = ROOT / meta["checkpoint"] if "checkpoint" in meta else folder / "model.mlir" if (folder / "model.mlir").exists() else folder
    weights = folder if source.suffix == ".mlir" else source
    ids = json.loads((folder / "ids.json").read_text())
    try:
        with tempfile.TemporaryDirectory() as scratch:
            text = os.path.join(scratch, "model.linalg.mlir")
            dtype = [] if source.suffix == ".mlir" else ["--dtype", options.dtype]
            execute(["moec", "compile", source, "--emit", "linalg", "-o", text, *dtype])
            with open(text) as file:
                run_step = BACKENDS[options.backend](file.read(), scratch)
            logits = run(run_step, Checkpoint(str(weights)), ids, options.step).astype(np.float32)
        logits = logits[meta["rows"]] if "rows" in meta else logits
        judge = compare.compare_f32 if options.dtype == "f32" else compare.compare_bf16
        return folder.name, judge(np.load(folder / "logits.npy"), logits), True
    except (RuntimeError, ValueError, compare.Mismatch) as error:
        return folder.name, str(error), False


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--filter", nargs="+", default=["*"])
    parser.add_argument("--backend", default="native", choices=list(BACKENDS))
    parser.add_argument("--dtype", default="f32", choices=["f32", "bf16"])
    parser.add_argument("--step", type=int, help="tokens of each sequence per step (default: all)")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    folders = [folder for folder in sorted((ROOT / "test" / "golden" / "fixtures").iterdir())
               if (folder / "ids.json").exists() and any(fnmatch.fnmatch(folder.name, glob) for glob in options.filter)]
    if options.dtype != "f32":
        # A file of moe IR says its own types.
        folders = [folder for folder in folders if not (folder / "model.mlir").exists()]
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        results = list(pool.map(lambda folder: check(folder, options), folders))
    for name, figures, good in results:
        print(f"{'ok  ' if good else 'FAIL'} {name}: {figures}")
    failed = sum(not good for _, _, good in results)
    print(f"{len(results) - failed} golden fixtures agree, {failed} do not ({options.backend}, {options.dtype})")
    return 1 if failed or not results else 0


if __name__ == "__main__":
    sys.exit(main())
