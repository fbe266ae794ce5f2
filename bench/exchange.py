#!/usr/bin/env python3
"""The exchanges `gather` and `exact` of expert ranks against each other, on the bundled Mixtral.

    bench/exchange.py [--ranks 2,4] [--prompt-length 512] [--generate 32] [--rounds 5] [--build build]

Each rank has one sequence. Runs take turns, so that what else the machine does falls on both; printed are medians of tokens
per second of all ranks together and the median of the ratios of neighbours, with their range. Ranks are threads with one
worker each: with more of them than cores the figures are of work done, not of waiting.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
PHASES = ("prefill", "decode")


def run(*command):
    return subprocess.run([str(c) for c in command], check=True, stdout=subprocess.PIPE, text=True).stdout


def measure(args, package, ranks):
    result = json.loads(run(args.build / "bin/moe-run", "bench", package, "--prompt-length", args.prompt_length, "--generate",
                            args.generate, "--batch", ranks, "--repeat", 1, "--threads", 1, "--no-bandwidth", "--json",
                            "--quiet"))
    return {phase: result[f"{phase}_tokens_per_second"]["median"] for phase in PHASES}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--ranks", default="2,4")
    parser.add_argument("--prompt-length", type=int, default=512)
    parser.add_argument("--generate", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    args = parser.parse_args()
    for ranks in map(int, args.ranks.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            packages = {}
            for exchange in ("gather", "exact"):
                packages[exchange] = pathlib.Path(folder) / exchange
                run(args.build / "bin/moec", "compile", ROOT / "examples/models/tiny-mixtral", "-o", packages[exchange],
                    "--target", "cpu:host", "--ranks", ranks, "--exchange", exchange, "--max-tokens",
                    max(512, args.prompt_length), "--quiet")
            runs = [{exchange: measure(args, package, ranks) for exchange, package in packages.items()}
                    for _ in range(args.rounds)]
        for phase in PHASES:
            ratios = [r["exact"][phase] / r["gather"][phase] for r in runs]
            medians = {e: statistics.median(r[e][phase] for r in runs) for e in packages}
            print(f"{ranks} ranks, {phase}: gather {medians['gather']:.0f}, exact {medians['exact']:.0f} tokens/s; exact / gather "
                  f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})", flush=True)


if __name__ == "__main__":
    main()
