#!/usr/bin/env python3
"""Kills a command while it replaces its output: kill.py OUT COMMAND... --- EXTRA...

COMMAND writes the old output, COMMAND EXTRA the new one. It is killed at six moments of its run; OUT must be old or new
each time. In the end it runs through, and nothing but OUT may be left beside it.
"""

import hashlib
import pathlib
import subprocess
import sys
import time

out = pathlib.Path(sys.argv[1])
split = sys.argv.index("---")
command, extra = sys.argv[2:split], sys.argv[split + 1:]


def digest():
    files = sorted(out.iterdir()) if out.is_dir() else [out]
    return [(file.name, hashlib.sha256(file.read_bytes()).hexdigest()) for file in files]


def run(*arguments):
    subprocess.run([*command, *arguments], check=True, stdout=subprocess.DEVNULL)


start = time.monotonic()
run(*extra)
seconds = time.monotonic() - start
new = digest()
run()
old = digest()
assert old != new
killed = 0
for moment in range(6):
    process = subprocess.Popen([*command, *extra], stdout=subprocess.DEVNULL)
    # The last is late: while the output is written and put into place.
    time.sleep(seconds * (moment + 0.5) / 6)
    process.kill()
    killed += process.wait() != 0
    now = digest()
    assert now in (old, new), f"neither old nor new after {moment + 0.5}/6 of {seconds:.2f} s"
    if now == new:
        run()
run(*extra)
assert digest() == new
left = [path.name for path in out.parent.iterdir() if path.name.startswith(out.name + ".") and path.name != out.name + ".gguf"]
assert not left, left
print(f"killed {killed} of 6, old or new each time")
