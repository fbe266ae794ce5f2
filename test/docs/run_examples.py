#!/usr/bin/env python3
"""Executes every command the documentation shows, and checks what it shows of their output and of our code.

In a page of Markdown

    ```console
    $ moec inspect build/demo/tiny-mixtral      <- executed in the checkout's root, with build/bin first in PATH
    variant x86-64-v3: 12 kernels               <- if output is shown, it must come; any number stands for any number
    ...                                         <- stands for any lines, or none
    ```

The commands of a page run in one shell, top to bottom, so variables and files carry over. A command must exit with 0, or with
N if `# exits with N` ends its line. A line of output matches anywhere in order only after `...`; `…` in a line stands for any
text. Options stand after `console`: `requires=a,b` names Python modules (or `network`) without which the block is left out,
`no-run: REASON` says why nobody should run it here (it may take minutes). Both are counted and printed, never silent.

A block after `<!-- quote: path/to/file -->` is a quote: its lines must stand together in that file, whatever the indentation;
a line `...` skips some. So documentation cannot show code that is no more.

A fenced block that looks like commands but is not marked `console` is an error: no command escapes by accident.

    run_examples.py [PAGE...]       by default every tracked *.md
    run_examples.py --list          what would run
"""

import argparse
import importlib.util
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
FENCE = re.compile(r"^(\s*)(```+)(.*)$")
QUOTE = re.compile(r"^\s*<!--\s*quote:\s*(\S+)\s*-->\s*$")
EXITS = re.compile(r"\s*#\s*exits with (\d+)\s*$")
NUMBER = re.compile(r"\d+(?:[.,]\d+)*(?:e[+-]?\d+)?")
COMMAND = re.compile(r"^\s*(?:\$ |(?:\w+=\S* )*(?:\./dev|\S*moec|\S*moe-run|\S*moe-opt|cmake|ninja|python3?|pip|\S*/pip|apt-get|git) )")


class Block:
    """A fenced block: where it is, what its info string says, its lines, and the file it quotes if it is a quote."""

    def __init__(self, page, line, info, quote):
        self.page, self.line, self.info, self.quote, self.lines = page, line, info.strip(), quote, []

    @property
    def where(self):
        return f"{self.page}:{self.line}"

    @property
    def is_console(self):
        return self.info.split(" ", 1)[0] == "console"

    @property
    def no_run(self):
        return self.info.split("no-run:", 1)[1].strip() if "no-run:" in self.info else None

    @property
    def requires(self):
        found = re.search(r"requires=(\S+)", self.info.split("no-run:")[0])
        return found[1].split(",") if found else []


class Command:
    """One `$ ` line with its continuations, the exit code it promises and the output it shows."""

    def __init__(self, line, text):
        self.line, self.text, self.output = line, text, []

    def finish(self):
        exits = EXITS.search(self.text)
        self.exit = int(exits[1]) if exits else 0
        self.text = EXITS.sub("", self.text)
        while self.output and not self.output[-1].strip():
            self.output.pop()
        return self


def blocks_of(path, page):
    """All fenced blocks of a page; an unclosed one runs to the end, as Markdown has it."""
    blocks, current, fence, quote = [], None, None, None
    for number, line in enumerate(path.read_text().splitlines(), 1):
        match = FENCE.match(line)
        if current is None and match:
            current, fence = Block(page, number, match[3], quote), match[2]
            indent = len(match[1])
        elif current is not None and match and match[2].startswith(fence) and not match[3].strip():
            blocks.append(current)
            current = None
        elif current is not None:
            current.lines.append(line[indent:] if line[:indent].strip() == "" else line)
        if current is None and line.strip():
            found = QUOTE.match(line)
            quote = found[1] if found else None
    return blocks + ([current] if current else [])


def commands_of(block):
    commands = []
    for offset, line in enumerate(block.lines, block.line + 1):
        if line.startswith("$ "):
            commands.append(Command(offset, line[2:]))
        elif commands and not commands[-1].output and (commands[-1].text.endswith("\\") or line.startswith("> ")):
            commands[-1].text += "\n" + line.removeprefix("> ")
        elif commands:
            commands[-1].output.append(line)
        elif line.strip():
            raise ValueError(f"{block.page}:{offset}: output before any '$ ' command")
    return [command.finish() for command in commands]


def line_pattern(line):
    """A shown line as a regular expression: numbers vary, `…` is any text, runs of blanks are one."""
    parts = []
    for piece in re.split(r"(…)", " ".join(line.split())):
        if piece == "…":
            parts.append(".*")
            continue
        position = 0
        for number in NUMBER.finditer(piece):
            parts += [re.escape(piece[position : number.start()]), NUMBER.pattern]
            position = number.end()
        parts.append(re.escape(piece[position:]))
    return re.compile("".join(parts) + r"\Z")


def first_difference(shown, actual):
    """None if `actual` is what `shown` promises, else a sentence. `...` skips lines, and backtracks if it must."""
    actual = [" ".join(line.split()) for line in actual]
    patterns = [None if line.strip() == "..." else line_pattern(line) for line in shown]
    reachable, failed_at = {0}, 0
    for index, pattern in enumerate(patterns):
        if pattern is None:
            following = set(range(min(reachable), len(actual) + 1))
        else:
            following = {n + 1 for n in reachable if n < len(actual) and pattern.match(actual[n])}
        if not following:
            near = min(reachable)
            got = repr(actual[near]) if near < len(actual) else "the end of the output"
            return f"shows {shown[index].strip()!r}, but got {got}"
        reachable, failed_at = following, index
    if len(actual) not in reachable:
        extra = actual[min(reachable)]
        return f"shows nothing after {shown[failed_at].strip()!r}, but {extra!r} came"
    return None


class Shell:
    """One bash for a page. stderr is merged into stdout, as a reader's terminal shows it."""

    def __init__(self, bin_dir):
        self.scratch = tempfile.TemporaryDirectory(prefix="docs-")
        self.script = pathlib.Path(self.scratch.name) / "command"
        self.end = f"--end-of-command-{os.getpid()}--"
        environment = dict(os.environ, PATH=f"{bin_dir}:{os.environ['PATH']}", LC_ALL="C.UTF-8", COLUMNS="120", TERM="dumb")
        self.process = subprocess.Popen(["bash", "--norc"], cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, text=True, start_new_session=True, errors="replace")
        self.process.stdin.write("set -o pipefail\n")

    def run(self, text, timeout):
        """(exit code or None after a timeout or an `exit`, lines). After None the shell is gone."""
        self.script.write_text(text + "\n")
        self.process.stdin.write(f". '{self.script}' </dev/null\nprintf '\\n%s%d\\n' '{self.end}' $?\n")
        self.process.stdin.flush()
        killer = threading.Timer(timeout, self.kill)
        killer.start()
        lines = []
        for line in self.process.stdout:
            if line.startswith(self.end):
                killer.cancel()
                if lines and not lines[-1]:  # the newline before the mark
                    lines.pop()
                return int(line[len(self.end) :]), lines
            lines.append(line.rstrip("\n"))
        killer.cancel()
        return None, lines

    def kill(self):
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def close(self):
        self.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()
        self.scratch.cleanup()


def missing_requirement(names):
    """The first of `names` that is not there, or None. `network`: asked for with MOE_DOCS_NETWORK=1."""
    for name in names:
        if name == "network":
            if os.environ.get("MOE_DOCS_NETWORK") != "1":
                return "network (set MOE_DOCS_NETWORK=1)"
        elif importlib.util.find_spec(name) is None:
            return name
    return None


def check_quote(block):
    """None, or what is wrong with a quote of code."""
    path = ROOT / block.quote
    if not path.is_file():
        return f"quotes {block.quote}, which does not exist"
    source = [" ".join(line.split()) for line in path.read_text().splitlines()]
    source = [line for line in source if line]
    parts, part = [], []
    for line in block.lines:
        text = " ".join(line.split())
        if text == "...":
            parts.append(part)
            part = []
        elif text:
            part.append(text)
    position = 0
    for part in [p for p in parts + [part] if p]:
        starts = [n for n in range(position, len(source) - len(part) + 1) if source[n : n + len(part)] == part]
        if not starts:
            return f"quotes {block.quote}, which no longer has {part[0]!r} and the lines after it"
        position = starts[0] + len(part)
    return None


class Results:
    """Counts, and one printed line for everything but success."""

    def __init__(self):
        self.passed, self.failed, self.skipped, self.cases = 0, 0, 0, []

    def note(self, name, status, text=""):
        setattr(self, status, getattr(self, status) + 1)
        self.cases.append({"name": name, "status": status, "reason": text})
        if status != "passed":
            print(f"{'FAIL' if status == 'failed' else 'skip'} {name}: {text}", flush=True)


def run_page(path, page, args, results):
    shell = None
    for block in blocks_of(path, page):
        if block.quote:
            problem = check_quote(block)
            results.note(f"{block.where} quote", "failed" if problem else "passed", problem or "")
            continue
        if not block.is_console:
            command = next((line for line in block.lines if COMMAND.match(line)), None)
            if block.info in ("", "sh", "bash", "shell") and command:
                results.note(block.where, "failed", f"{command.strip()!r} is a command in a block that is not marked `console`; "
                             "mark it, or say `console no-run: REASON`")
            continue
        if block.no_run is not None:
            results.note(block.where, "skipped" if block.no_run else "failed", block.no_run or "`no-run:` needs a reason")
            continue
        missing = missing_requirement(block.requires)
        if missing:
            results.note(block.where, "skipped", f"needs {missing}")
            continue
        try:
            commands = commands_of(block)
        except ValueError as error:
            results.note(block.where, "failed", str(error))
            continue
        if not commands:
            results.note(block.where, "failed", "a console block without a '$ ' command")
        for command in commands:
            name = f"{page}:{command.line}"
            if args.list:
                print(f"{name}: {command.text}")
                continue
            shell = shell or Shell(args.bin)
            begun = time.monotonic()
            code, lines = shell.run(command.text, args.timeout)
            tail = "".join(f"\n      {line}" for line in lines[-8:])
            if code is None:
                results.note(name, "failed", f"`{command.text}` did not end within {args.timeout} s, or ended the shell{tail}")
                shell.close()
                shell = None
            elif code != command.exit:
                results.note(name, "failed", f"`{command.text}` exits with {code}, expected {command.exit}{tail}")
            else:
                difference = first_difference(command.output, lines) if command.output else None
                results.note(name, "failed" if difference else "passed", f"`{command.text}` {difference}{tail}" if difference else "")
            if args.verbose:
                print(f"{time.monotonic() - begun:6.1f} s  {name}: {command.text}", flush=True)
    if shell:
        shell.close()


def pages(arguments):
    if arguments:
        return [path.resolve() for path in arguments]
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard", "*.md"],
                            check=True, capture_output=True, text=True).stdout
    return [ROOT / name for name in sorted(listed.split("\0")) if name and (ROOT / name).is_file()]


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="*", type=pathlib.Path, help="Markdown files (default: every one of the checkout)")
    parser.add_argument("--bin", type=pathlib.Path, default=ROOT / "build/bin", help="folder of our tools")
    parser.add_argument("--timeout", type=float, default=300, help="seconds for one command")
    parser.add_argument("--list", action="store_true", help="print the commands, run none")
    parser.add_argument("--verbose", action="store_true", help="print every command with its time")
    parser.add_argument("--json", type=pathlib.Path, help="write the results here")
    args = parser.parse_args(argv)
    results = Results()
    for path in pages(args.pages):
        run_page(path, path.relative_to(ROOT) if ROOT in path.parents else path.name, args, results)
    if args.json:
        args.json.write_text(json.dumps({"cases": results.cases}, indent=1) + "\n")
    print(f"docs: {results.passed} passed, {results.failed} failed, {results.skipped} skipped")
    return 1 if results.failed else 0


if __name__ == "__main__":
    sys.exit(main())
