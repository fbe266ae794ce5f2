#!/usr/bin/env python3
"""Shows that every check of the verifiers and of the program loader has a test that notices when it is gone.

    run.py [dialects | loader]...

Copies the checkout to build/mutation, gives every condition that leads to an error a number (each side of `||` its own)
and a switch that turns it off, builds once, and then runs the tests of errors with one condition off at a time. A
mutant that no test notices is printed and makes the exit code 1. Not part of ./dev test: building takes minutes. A
condition that cannot fail a test (a case that an earlier check excludes, a limit that no test can reach) carries
`// not tested: <why>` on the line of its `if` or the line before, and is skipped.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / "build/mutation"
SETS = {
    "dialects": {
        "sources": ["dialects/*/IR/*.cpp", "passes/Verify/*.cpp"],
        "targets": ["moe-opt"],
        "tests": ["test/dialects/*/*errors*.mlir", "test/passes/Verify/*errors*.mlir"],
        "refusal": re.compile(r"emitError|emitOpError|return failure\(\)|return nullptr|checkEqual|checkShape"),
    },
    "loader": {
        "sources": ["runtime/core/Checks.cpp", "runtime/core/Hazards.cpp"],
        "targets": ["runtime-load", "runtime-rank-checks", "runtime-core", "runtime-session", "runtime-entries"],
        "refusal": re.compile(r"return corrupt\(|return error\(|return false"),
    },
}
SWITCH = """#ifndef MOE_MUTANT_SWITCH
#define MOE_MUTANT_SWITCH
#include <cstdlib>
inline bool moeMutantIsOff(int number) {
  static const int off = std::getenv("MOE_MUTANT") ? std::atoi(std::getenv("MOE_MUTANT")) : -1;
  return off == number;
}
#endif
"""


def closing(text, start):
    """The place behind the bracket that closes the one at `start`; strings and comments are stepped over."""
    pairs, stack, i = {"(": ")", "{": "}", "[": "]"}, [], start
    while i < len(text):
        c = text[i]
        if c == '"' or (c == "'" and not text[i - 1].isalnum()):
            i += 1
            while text[i] != c:
                i += 2 if text[i] == "\\" else 1
        elif text.startswith("//", i):
            i = text.index("\n", i)
        elif c in pairs:
            stack.append(pairs[c])
        elif stack and c == stack[-1]:
            stack.pop()
            if not stack:
                return i + 1
        i += 1
    raise ValueError("no closing bracket")


def split(text, separator):
    """`text` cut at every `separator` that is in no bracket."""
    parts, depth, begin = [], 0, 0
    for match in re.finditer(r"[(\[{]|[)\]}]|" + re.escape(separator), text):
        token = match.group()
        if token == separator:
            if depth == 0:
                parts.append(text[begin : match.start()])
                begin = match.end()
        else:
            depth += 1 if token in "([{" else -1
    return parts + [text[begin:]]


class Mutants:
    def __init__(self):
        self.found = []  # (file, line, condition)
        self.skipped = 0

    def apply(self, path, refusal):
        """The text of a source file with a switch at every condition that refuses something."""
        text, out, at = path.read_text(), [], 0
        for match in re.finditer(r"\bif \(", text):
            if match.start() < at or text[text.rfind("\n", 0, match.start()) + 1 : match.start()].strip().startswith("//"):
                continue
            end = closing(text, match.end() - 1)
            if not text.startswith(" {", end):
                continue
            body = text[end : closing(text, end + 1)]
            if not refusal.search(body) or re.search(r"\n\s*(for|if) ", body):
                continue
            line = text.count("\n", 0, match.start())
            if any("// not tested: " in near for near in text.split("\n")[max(line - 1, 0) : line + 1]):
                self.skipped += 1
                continue
            *init, condition = split(text[match.end() : end - 1], ";")
            sides = []
            for side in split(condition, "||"):
                number = len(self.found)
                self.found.append((path.relative_to(ROOT), line + 1, " ".join(side.split())))
                # First, so that a side that is off emits no diagnostic.
                sides.append(f"(!moeMutantIsOff({number}) && ({side}))")
            out.append(text[at : match.end()] + "".join(part + "; " for part in init) + " || ".join(sides))
            at = end - 1
        return SWITCH + "".join(out) + text[at:]


def copy_tree(mutants, kinds):
    source = WORK / "source"
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    files = subprocess.run(listing, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout
    for name in files.decode().split("\0"):
        if name and not name.startswith("examples/models") and (ROOT / name).is_file():
            target = source / name
            target.parent.mkdir(parents=True, exist_ok=True)
            # Untouched files keep their time, so that a second run builds little.
            if not target.is_file() or target.stat().st_mtime != (ROOT / name).stat().st_mtime:
                shutil.copy2(ROOT / name, target)
    for kind in kinds:
        first = len(mutants.found)
        for pattern in SETS[kind]["sources"]:
            for path in sorted(ROOT.glob(pattern)):
                target, text = source / path.relative_to(ROOT), mutants.apply(path, SETS[kind]["refusal"])
                if not target.is_file() or target.read_text() != text:
                    target.write_text(text)
        SETS[kind]["numbers"] = range(first, len(mutants.found))
    return source


def build(source, kind):
    folder = WORK / f"build-{kind}"
    options = [] if kind == "dialects" else ["-DMOE_BUILD_COMPILER=OFF"]
    configure = ["cmake", "--preset", "release", "-B", str(folder)] + options
    log = WORK / f"build-{kind}.log"
    with open(log, "w", encoding="utf-8") as output:
        for command in (configure, ["ninja", "-C", str(folder)] + SETS[kind]["targets"]):
            if subprocess.run(command, cwd=source, stdout=output, stderr=output, check=False).returncode != 0:
                sys.exit(f"building the mutants failed: see {log}")
    return folder


def commands_of(kind, source, folder):
    """Commands that pass, and at least one of which must fail when a check is gone."""
    if kind == "loader":
        programs = [folder / "test/bin" / target for target in SETS[kind]["targets"]]
        return [f"{program} --gtest_filter=-*EveryFlipped*:*EveryTruncation* --gtest_brief=1" for program in programs]
    found = []
    for pattern in SETS[kind]["tests"]:
        for path in sorted(source.glob(pattern)):
            for run in re.findall(r"^// RUN: (.*)$", path.read_text(), re.M):
                found.append(run.replace("%s", str(path)).replace("moe-opt", str(folder / "bin/moe-opt"), 1))
    return found


def passes(command, number=None):
    environment = dict(os.environ, MOE_SOURCE_ROOT=str(ROOT), GTEST_OUTPUT="")
    if number is not None:
        environment["MOE_MUTANT"] = str(number)
    try:
        done = subprocess.run(command, shell=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                              check=False, timeout=120)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("kinds", nargs="*", metavar="dialects|loader", help="what to mutate (both)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    kinds = arguments.kinds or list(SETS)
    if not set(kinds) <= set(SETS):
        parser.error(f"unknown: {', '.join(sorted(set(kinds) - set(SETS)))}")
    mutants = Mutants()
    source = copy_tree(mutants, kinds)
    print(f"{len(mutants.found)} mutants, {mutants.skipped} conditions marked as not tested; building", flush=True)
    survivors = []
    for kind in kinds:
        commands = commands_of(kind, source, build(source, kind))
        for command in commands:
            if not passes(command):
                sys.exit(f"fails without a mutation: {command}")

        def survives(number, commands=commands):
            return all(passes(command, number) for command in commands)

        with ThreadPoolExecutor(arguments.jobs) as pool:
            numbers = SETS[kind]["numbers"]
            survivors += [n for n, alive in zip(numbers, pool.map(survives, numbers)) if alive]
    for number in survivors:
        path, line, condition = mutants.found[number]
        print(f"{path}:{line}: no test notices when this is gone: {condition}")
    print(f"{len(mutants.found)} mutants, {len(survivors)} survive")
    sys.exit(1 if survivors else 0)


if __name__ == "__main__":
    main()
