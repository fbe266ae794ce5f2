#!/usr/bin/env python3
"""Compares two files of moe-run logits (.npy of f32): fails above a tolerance, at a NaN and at another shape.

    compare_logits.py A.npy B.npy --max 2e-4

Plain Python, so that tests need no numpy.
"""

import argparse
import array
import ast
import sys


def read(path):
    with open(path, "rb") as file:
        data = file.read()
    assert data[:8] == b"\x93NUMPY\x01\x00", path
    length = int.from_bytes(data[8:10], "little")
    header = ast.literal_eval(data[10:10 + length].decode())
    assert header["descr"] == "<f4" and not header["fortran_order"], header
    return header["shape"], array.array("f", data[10 + length:])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("a")
    parser.add_argument("b")
    parser.add_argument("--max", type=float, required=True, help="largest difference that passes")
    args = parser.parse_args()
    (shape, a), (other, b) = read(args.a), read(args.b)
    if shape != other or not len(a):
        sys.exit(f"shapes differ or are empty: {shape} and {other}")
    # max() passes over a NaN that does not come first.
    worst = max(abs(x - y) if x - y == x - y else float("inf") for x, y in zip(a, b))
    print(f"{shape[0]} rows, largest difference {worst:.3g}")
    sys.exit(0 if worst <= args.max else f"above {args.max:g}")


if __name__ == "__main__":
    main()
