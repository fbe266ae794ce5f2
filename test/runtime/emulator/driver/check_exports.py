#!/usr/bin/env python3
"""Compares what libcuda.so.1 of ours exports with Symbols.inc and, where there is one, with a toolkit's stub.

    check_exports.py NM LIBRARY SYMBOLS [STUB]

Every name of the table and of the stub must be there; nothing may be there that is neither a driver's name nor one of
the emulator's own (moeEmulator...). Says how many functions are more than the answer NOT_SUPPORTED.
"""

import re
import subprocess
import sys


def exported(nm, library):
    """name -> kind letter of every defined dynamic symbol."""
    out = subprocess.run([nm, "-D", "--defined-only", library], check=True, stdout=subprocess.PIPE, text=True).stdout
    return {line.split()[-1]: line.split()[-2] for line in out.splitlines()}


def main():
    nm, library, table = sys.argv[1:4]
    names = set(re.findall(r"^CU_SYMBOL\(\w+, (\w+),", open(table, encoding="utf-8").read(), re.M))
    have = exported(nm, library)
    wanted = names | (set(exported(nm, sys.argv[4])) if len(sys.argv) > 4 else set())
    missing = sorted(wanted - have.keys())
    extra = sorted(name for name in have.keys() - names if not name.startswith("moeEmulator"))
    for what, which in (("missing", missing), ("not the driver's", extra)):
        if which:
            print(f"{library}: {what}: {', '.join(which)}")
    supported = sum(kind == "T" for name, kind in have.items() if name in names)
    print(f"{len(names)} names, {supported} of them supported")
    sys.exit(bool(missing or extra or supported < 300))


if __name__ == "__main__":
    main()
