#!/usr/bin/env python3
"""What FFN Fusion costs and gains on a model: plans of the search, of the published recipe and fixed ones, side by side.

    bench/fusion.py MODEL --calibration CAL --out FOLDER [--ranks 1,2] [--fronts 4] [moec fuse options...]

Runs `moec fuse` once per number of ranks (its table has sub-layers, weight and KV bytes, KL, top-1 agreement, loss and decode
latency; the report beside it has KL predicted and without repair) and adds fixed plans: four pairs, three and four layers in
the middle, the last two, in forms D, P and R. MODEL and CAL are those of `moe-run calibrate --windows 4` (docs/calibration.md).
`moec` and `moe-run` must be in PATH.
"""

import argparse
import json
import subprocess
from pathlib import Path


def fixed_plans(layers):
    """Name -> windows (first, length). Of 30 layers: pairs at 13, 17, 20, 26, three and four at 16, the last two at 28."""

    def at(layer):
        return round(layer * layers / 30)

    pairs = [at(13), at(17), at(20), at(26)]
    plans = {"three": [(at(16), 3)], "four": [(at(16), 4)], "last": [(layers - 2, 2)]}
    if all(b - a >= 2 for a, b in zip(pairs, pairs[1:])) and pairs[-1] + 2 <= layers:
        plans["pairs"] = [(first, 2) for first in pairs]
    return plans


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("model", type=Path)
parser.add_argument("--calibration", type=Path, required=True)
parser.add_argument("--out", type=Path, required=True)
parser.add_argument("--ranks", default="1")
parser.add_argument("--forms", default="D,P,R", help="of the fixed plans; empty: none")
args, options = parser.parse_known_args()

args.out.mkdir(parents=True, exist_ok=True)
layers = json.loads((args.model / "config.json").read_text())["num_hidden_layers"]
also = []
for form in filter(None, args.forms.split(",")):
    for name, windows in fixed_plans(layers).items():
        plan = {
            "format": "moe-fusion-plan",
            "version": 1,
            "layers": layers,
            "windows": [{"first": first, "length": length, "form": form} for first, length in windows],
        }
        path = args.out / f"{name}-{form}.json"
        path.write_text(json.dumps(plan))
        also += ["--also", str(path)]
for ranks in args.ranks.split(","):
    out = args.out / f"ranks-{ranks}"
    command = ["moec", "fuse", args.model, "--calibration", args.calibration, "-o", out, "--ranks", ranks, *also, *options]
    print(" ".join(map(str, command)), flush=True)
    subprocess.run(list(map(str, command)), check=True)
