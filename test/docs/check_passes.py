#!/usr/bin/env python3
"""docs/passes.md has a row for every pass of the Passes.td files, and no other; its pages and examples exist.

    check_passes.py [FOLDER]
"""

import re
import sys
from pathlib import Path


def main():
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[2]
    declared = set()
    for folder in ("passes", "lowering"):
        for path in root.glob(f"{folder}/**/Passes.td"):
            declared |= set(re.findall(r'Pass<"([a-z0-9-]+)"', path.read_text()))
    rows = re.findall(r"^\| `([a-z0-9-]+)` \|.*$", (root / "docs/passes.md").read_text(), re.M)
    problems = [f"docs/passes.md lacks a row for {name}" for name in sorted(declared - set(rows))]
    problems += [f"docs/passes.md has a row for {name}, which no Passes.td declares" for name in sorted(set(rows) - declared)]
    for row in re.findall(r"^\| `moe-.*$", (root / "docs/passes.md").read_text(), re.M):
        links = re.findall(r"\]\(([^)#]+)\)", row)
        problems += [f"docs/passes.md: {link} does not exist" for link in links if not (root / "docs" / link).exists()]
        if not any(link.startswith("../test/") for link in links):
            problems.append(f"docs/passes.md: no example in: {row}")
    if not declared:
        problems.append(f"{root} declares no pass at all")
    print("\n".join(problems) or f"{len(declared)} passes")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
