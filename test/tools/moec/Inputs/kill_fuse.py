"""Kills a command that writes a package at several moments, and looks at what it left.

    kill_fuse.py PACKAGE SECONDS[,SECONDS...] COMMAND...

After each kill PACKAGE must be absent or whole, and nothing that the command started may still run.
"""

import subprocess
import sys
import time
from pathlib import Path

package, moments, command = Path(sys.argv[1]), sys.argv[2].split(","), sys.argv[3:]


def children():
    """Processes whose command line names the package's intermediate files."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (str(package) + ".work").encode() in (entry / "cmdline").read_bytes():
                found.append(entry.name)
        except OSError:
            pass
    return found


killed = 0
for moment in moments:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        process.wait(timeout=float(moment))
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        killed += 1
    for _ in range(100):
        if not children():
            break
        time.sleep(0.05)
    assert not children(), "a process of the killed command goes on"
    if package.exists():
        subprocess.run(["moec", "inspect", str(package)], check=True, stdout=subprocess.DEVNULL)
print(f"killed {killed} times, and every time the package was absent or whole")
