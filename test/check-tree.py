#!/usr/bin/env python3
"""House rules that a script can check, over every file git tracks (or would): sizes, marks, paths, links, headers.

    check-tree.py [FOLDER]      the checkout to check, by default the one this script is in

Prints `file:line: problem` for each, and exits 1 if there is one. It knows nothing of C++; clang-format and clang-tidy
do that.
"""

import re
import subprocess
import sys
from pathlib import Path

MAX_LINES = {".td": 600}
DEFAULT_MAX_LINES = 800
MAX_BYTES = 16 << 20
# Recorded data: its length says nothing about how readable the project is.
DATA = (".gguf", ".json", ".npy", ".ptx", ".safetensors")
CODE = (".cpp", ".h", ".c", ".td", ".py", ".sh", ".fbs", ".cmake")

MARK = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b(?!\(#\d+\))")
MACHINE_PATH = re.compile(r"(?<![\w.}/-])/(?:work|root|home|Users|mnt)/[\w.-]+")
URL = re.compile(r"https?://([\w.-]+)")
# Hosts that documents may name; anything else is likely the mirror of somebody's machine.
HOSTS = re.compile(
    r"^(?:[\w-]+\.)*(?:llvm\.org|github\.com|github\.io|huggingface\.co|apache\.org|debian\.org|pypi\.org|python\.org"
    r"|arxiv\.org|perfetto\.dev|json-schema\.org|iree\.dev|example\.com|cmake\.org|pytorch\.org|unicode\.org)$"
)
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")


def tracked(root):
    """Files of the checkout: tracked, or new and not ignored."""
    command = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.decode().split("\0")
    return [root / name for name in sorted(set(names)) if name and (root / name).is_file()]


def check_text(path, relative, text):
    """(line number, problem) of one text file."""
    lines = text.split("\n")
    limit = MAX_LINES.get(path.suffix, DEFAULT_MAX_LINES)
    if len(lines) - 1 > limit:
        yield 1, f"{len(lines) - 1} lines, the limit is {limit}: split it by family or by job"
    if text and not text.endswith("\n"):
        yield len(lines), "no newline at the end of the file"
    first = lines[1] if lines[0].startswith("#!") and len(lines) > 1 else lines[0]
    if path.suffix in CODE and not first.startswith(("//", "/*", "#", '"""', 'r"""')):
        yield 1, "no header comment: say what the file does, its key idea, and what it does not do"
    for number, line in enumerate(lines, 1):
        if line != line.rstrip():
            yield number, "whitespace at the end of the line"
        for match in MARK.finditer(line):
            yield number, f"{match[1]} without an issue number: write {match[1]}(#12), or do it"
        for match in MACHINE_PATH.finditer(line):
            yield number, f"path of one machine: {match[0]}"
        for match in URL.finditer(line):
            if not HOSTS.match(match[1]):
                yield number, f"host {match[1]} is not among those that check-tree.py allows"
        if path.suffix == ".md":
            for match in LINK.finditer(line):
                if "://" not in match[1] and not (path.parent / match[1]).exists():
                    yield number, f"link to {match[1]}, which does not exist"


def main():
    root = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent).resolve()
    problems, files = [], tracked(root)
    for path in files:
        relative = path.relative_to(root)
        if path.stat().st_size > MAX_BYTES:
            problems.append(f"{relative}:1: {path.stat().st_size} bytes, the limit is {MAX_BYTES}")
        if path.suffix in DATA or relative == Path("test/check-tree.py"):
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        problems += [f"{relative}:{number}: {problem}" for number, problem in check_text(path, relative, text)]
    print("\n".join(problems) if problems else f"{len(files)} files keep the rules")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
