#!/usr/bin/env python3
"""Every constraint label stands in the spec, on its check and in a test that is expected to fail.

    check_labels.py [FOLDER]

A label is `<op>_c<n>`. It is
  specified    where docs/spec.md or docs/sched.md has the list item `* (label) ...`,
  checked      where a .td or .cpp file of a dialect, or a pass in passes/Verify, has it in a comment,
  tested       where a test of errors names a function or a module `@label` or `@label_<variant>`, or a line begins
               with `// label` (a schedule has no name).
Prints what lacks which, and exits 1 if anything does.
"""

import re
import sys
from pathlib import Path

LABEL = r"[a-z][a-z0-9_]*_c\d+"
SPEC = re.compile(rf"^\* \(({LABEL})\)", re.M)
COMMENT = re.compile(r"(?://|/\*)(.*)")
TEST = re.compile(rf"(?:@|^// )({LABEL})(?:_[a-z0-9_]+)?\b", re.M)
SPECS = ("docs/spec.md", "docs/sched.md")
CHECKS = ("dialects/*/IR/*.td", "dialects/*/IR/*.cpp", "passes/Verify/*.cpp")
TESTS = ("test/dialects/*/*-errors.mlir", "test/passes/Verify/verify-*")


def files(root, patterns):
    return [path for pattern in patterns for path in sorted(root.glob(pattern))]


def find(root):
    """For each of spec, check and test: label -> the file that has it."""
    found = {"spec": {}, "check": {}, "test": {}}
    for spec in files(root, SPECS):
        for label in SPEC.findall(spec.read_text()):
            if label in found["spec"]:
                sys.exit(f"{spec}: label {label} stands in a spec already")
            found["spec"][label] = spec
    for path in files(root, CHECKS):
        # The description is the spec's text; only comments are checks.
        code = re.sub(r"let description = \[\{.*?\}\];", "", path.read_text(), flags=re.S)
        for comment in COMMENT.findall(code):
            for label in re.findall(rf"\b{LABEL}\b", comment):
                found["check"].setdefault(label, path)
    for path in files(root, TESTS):
        for label in TEST.findall(path.read_text()):
            found["test"].setdefault(label, path)
    return found


def main():
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[2]
    found = find(root)
    labels = sorted(set().union(*found.values()))
    if not labels:
        sys.exit(f"{root} has no label at all")
    problems = 0
    for label in labels:
        for kind, have in found.items():
            if label not in have:
                where = next(other[label] for other in found.values() if label in other)
                print(f"{label}: no {kind} (it is in {where.relative_to(root)})")
                problems += 1
    print(f"{len(labels)} labels, {problems} gaps")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
