#!/usr/bin/env python3
"""Keeps the reference of ops, attributes and types in docs/spec.md equal to the .td files.

    op_reference.py [--write] [FOLDER]

The part of docs/spec.md between `<!-- reference: DIALECT -->` and `<!-- end -->` is made of the summaries and
descriptions in the .td files. Without --write, a difference is an error: run with --write and read what changed.
"""

import argparse
import difflib
import re
import sys
from pathlib import Path

from dialect_td import definitions

FOLDERS = {"moe": "dialects/Moe/IR"}
PART = re.compile(r"(<!-- reference: (\w+) -->\n).*?(<!-- end -->)", re.S)


def reference(root, dialect):
    """The reference of one dialect as Markdown."""
    parts, family = [], None
    found = definitions(root / FOLDERS[dialect], dialect)
    found.sort(key=lambda d: d.kind != "Op")  # ops first; a stable sort keeps the rest in order
    for definition in found:
        group = definition.family if definition.kind == "Op" else "Attributes and types"
        if group != family:
            parts.append(f"### {group}")
            family = group
        parts.append(f"#### `{definition.name}`: {definition.summary}")
        parts.append(definition.description)
    return "\n" + "\n\n".join(parts) + "\n\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--write", action="store_true", help="write docs/spec.md instead of comparing")
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).resolve().parents[2])
    options = parser.parse_args()
    spec = options.folder / "docs/spec.md"
    old = spec.read_text()
    new, count = PART.subn(lambda m: m[1] + reference(options.folder, m[2]) + m[3], old)
    if count != len(FOLDERS):
        sys.exit(f"{spec}: {count} parts between '<!-- reference: DIALECT -->' and '<!-- end -->', expected {len(FOLDERS)}")
    if options.write:
        spec.write_text(new)
    elif new != old:
        sys.stdout.writelines(difflib.unified_diff(old.splitlines(True), new.splitlines(True), "docs/spec.md", ".td files"))
        sys.exit("docs/spec.md is behind the .td files: run test/docs/op_reference.py --write")


if __name__ == "__main__":
    main()
