#!/usr/bin/env python3
"""Models and logits with NaN, for tests that a sequence with one leaves the others alone.

    spoil_row.py model DIRECTORY TENSOR ROW OUTPUT   a copy of a model of one bf16 safetensors file with that row NaN
    spoil_row.py compare A.npy B.npy --max 2e-2      the same rows of logits are NaN, some but not all; the others are near
"""

import argparse
import json
import math
import shutil
import sys
from pathlib import Path

from compare_logits import read


def spoil(directory, tensor, row, output):
    shutil.copytree(directory, output)
    path = Path(output) / "model.safetensors"
    data = bytearray(path.read_bytes())
    length = int.from_bytes(data[:8], "little")
    entry = json.loads(data[8:8 + length])[tensor]
    assert entry["dtype"] == "BF16", entry
    width = 2 * entry["shape"][1]
    begin = 8 + length + entry["data_offsets"][0] + row * width
    data[begin:begin + width] = b"\xc0\x7f" * (width // 2)
    path.chmod(0o644)
    path.write_bytes(data)


def compare(first, second, most):
    (shape, a), (other, b) = read(first), read(second)
    if shape != other:
        sys.exit(f"shapes {shape} and {other}")
    rows, width = math.prod(shape[:-1]), shape[-1]
    spoilt, worst = 0, 0
    for row in range(rows):
        pairs = list(zip(a[row * width:(row + 1) * width], b[row * width:(row + 1) * width]))
        bad = [sum(math.isnan(pair[side]) for pair in pairs) for side in range(2)]
        if bad not in ([0, 0], [width, width]):
            sys.exit(f"row {row} of {rows}: {bad[0]} and {bad[1]} of {width} are NaN")
        spoilt += bad[0] > 0
        worst = max([worst] + [abs(x - y) for x, y in pairs if bad[0] == 0])
    print(f"{spoilt} of {rows} rows are NaN in both, the others differ by at most {worst:.3g}")
    if not 0 < spoilt < rows or worst > most:
        sys.exit(f"some rows must be NaN, and the others within {most:g}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    model = commands.add_parser("model")
    for name, kind in [("directory", str), ("tensor", str), ("row", int), ("output", str)]:
        model.add_argument(name, type=kind)
    logits = commands.add_parser("compare")
    logits.add_argument("a")
    logits.add_argument("b")
    logits.add_argument("--max", type=float, required=True)
    options = parser.parse_args()
    if options.command == "model":
        spoil(options.directory, options.tensor, options.row, options.output)
    else:
        compare(options.a, options.b, options.max)


if __name__ == "__main__":
    main()
