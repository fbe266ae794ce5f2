#!/usr/bin/env python3
"""Compares two files of moe-run logits (.npy of f32): fails above a tolerance, at a NaN and at another shape.

    compare_logits.py A.npy B.npy --max 2e-4
    compare_logits.py A.npy B.npy --kl-mean 1e-3 --kl-max 2e-2 --lead 0.1

KL is of B from A, in nats per position. --lead asks for the same likeliest token wherever A's leads by so much, and for
some such position.

Plain Python, so that tests need no numpy.
"""

import argparse
import array
import ast
import math
import sys


def read(path):
    with open(path, "rb") as file:
        data = file.read()
    assert data[:8] == b"\x93NUMPY\x01\x00", path
    length = int.from_bytes(data[8:10], "little")
    header = ast.literal_eval(data[10:10 + length].decode())
    assert header["descr"] == "<f4" and not header["fortran_order"], header
    return header["shape"], array.array("f", data[10 + length:])


def divergence(a, b):
    """KL(softmax(a) || softmax(b))."""
    def log_softmax(row):
        top = max(row)
        total = math.log(math.fsum(math.exp(x - top) for x in row)) + top
        return [x - total for x in row]

    a, b = log_softmax(a), log_softmax(b)
    return math.fsum(math.exp(x) * (x - y) for x, y in zip(a, b))


def compare_rows(rows, args):
    """Prints what the options ask about (a, b) rows; returns what fails."""
    failed = []
    kl = [divergence(a, b) for a, b in rows]
    mean, worst = sum(kl) / len(kl), max(kl)
    print(f"KL mean {mean:.3g}, largest {worst:.3g}")
    if args.kl_mean is not None and not mean <= args.kl_mean:
        failed.append(f"mean KL is above {args.kl_mean:g}")
    if args.kl_max is not None and not worst <= args.kl_max:
        failed.append(f"largest KL is above {args.kl_max:g}")
    if args.lead is not None:
        clear = equal = 0
        for a, b in rows:
            first, second = sorted(a)[-1:-3:-1]
            if first - second >= args.lead:
                clear += 1
                equal += a.index(first) == b.index(max(b))
        print(f"likeliest token equal in {equal} of {clear} clear positions of {len(rows)}")
        if equal != clear or not clear:
            failed.append("likeliest tokens differ, or none is clear")
    return failed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("a")
    parser.add_argument("b")
    parser.add_argument("--max", type=float, help="largest difference that passes")
    parser.add_argument("--kl-mean", type=float, help="largest mean KL that passes")
    parser.add_argument("--kl-max", type=float, help="largest KL of a position that passes")
    parser.add_argument("--lead", type=float, help="how far ahead a clear winner is")
    args = parser.parse_args()
    if args.max is None and args.kl_mean is None and args.kl_max is None and args.lead is None:
        parser.error("give a tolerance")
    (shape, a), (other, b) = read(args.a), read(args.b)
    if shape != other or not len(a):
        sys.exit(f"shapes differ or are empty: {shape} and {other}")
    failed = []
    # max() passes over a NaN that does not come first.
    worst = max(abs(x - y) if x - y == x - y else float("inf") for x, y in zip(a, b))
    print(f"{shape[0]} rows, largest difference {worst:.3g}")
    if not worst <= (args.max if args.max is not None else sys.float_info.max):
        failed.append(f"largest difference is above {args.max:g}" if args.max is not None else "values are not finite")
    if args.kl_mean is not None or args.kl_max is not None or args.lead is not None:
        width = shape[1]
        rows = [(a[r * width:(r + 1) * width], b[r * width:(r + 1) * width]) for r in range(shape[0])]
        failed += compare_rows(rows, args) if worst <= sys.float_info.max else []
    sys.exit("; ".join(failed) or 0)


if __name__ == "__main__":
    main()
