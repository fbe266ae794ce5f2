#!/usr/bin/env python3
"""Writes Symbols.inc: the names that the driver library exports, with the version that introduced each.

    make_symbols.py STUB TYPEDEFS... > Symbols.inc

STUB is the text of `nm -D --defined-only libcuda.so` of a toolkit's link-time stub (or - for none); TYPEDEFS are the
toolkit's *Typedefs.h, of which only the names of the form PFN_<function>_v<version>[_ptsz|_ptds] are read. The nth
version of a function is the nth of its symbols: bare, _v2, _v3... The key idea: names and numbers are all that is taken over.
"""

import re
import sys
from collections import defaultdict

NUMBERS = [""] + [f"_v{number}" for number in range(2, 10)]
NAME = re.compile(r"\bPFN_(cu\w+?)_v(\d{4,5})(_ptsz|_ptds)?\b")


def main():
    stub, typedefs = sys.argv[1], sys.argv[2:]
    exported = set() if stub == "-" else set(re.findall(r"\bcu\w+$", open(stub, encoding="utf-8").read(), re.M))
    versions = defaultdict(set)
    for path in typedefs:
        for base, version, suffix in NAME.findall(open(path, encoding="utf-8").read()):
            versions[base, suffix].add(int(version))
    rows = []
    for (base, suffix), known in versions.items():
        names = [base + number + suffix for number in NUMBERS]
        # A function that was versioned before per-thread streams existed starts at _v2 there (cuMemcpyHtoD_v2_ptds).
        names = [name for name in names if name in exported] or names
        if len(names) < len(known):
            names = [base + number + suffix for number in NUMBERS]
        rows += [(base, version, suffix, name) for version, name in zip(sorted(known), names)]
    missing = exported - {row[3] for row in rows}
    if missing:
        sys.exit(f"make_symbols.py: no version known for {', '.join(sorted(missing))}")
    print("// Names that the CUDA driver library exports: CU_SYMBOL(function, symbol, version since, per-thread variant).")
    print("// Made by make_symbols.py from names alone; sorted, so that a lookup can search by halves.")
    for base, version, suffix, symbol in sorted(rows):
        print(f"CU_SYMBOL({base}, {symbol}, {version}, {int(bool(suffix))})")


if __name__ == "__main__":
    main()
