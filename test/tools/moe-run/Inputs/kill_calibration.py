"""Kills a calibration again and again: kill_calibration.py OUTPUT REFERENCE COMMAND...

After every kill OUTPUT is absent, or equal to REFERENCE (the file of a run that nobody killed). A run that is let go on
must end with exactly the bytes of REFERENCE, and leave nothing beside it. What a killed run left is copied to
REFERENCE.unfinished.
"""
import os
import shutil
import subprocess
import sys
import time

output, reference, command = sys.argv[1], open(sys.argv[2], "rb").read(), sys.argv[3:]
unfinished = output + ".unfinished"
kills = 0
for attempt in range(4):
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    before = os.stat(unfinished).st_mtime_ns if os.path.exists(unfinished) else 0
    while process.poll() is None and (not os.path.exists(unfinished) or os.stat(unfinished).st_mtime_ns == before):
        time.sleep(0.001)  # until one more sequence is done
    process.kill()
    if process.wait() != 0:
        kills += 1
        shutil.copy(unfinished, sys.argv[2] + ".unfinished")
    assert not os.path.exists(output) or open(output, "rb").read() == reference, "a half-written file"
assert kills >= 1, "no run was killed"
subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
assert open(output, "rb").read() == reference, "a resumed run gives other bytes"
left = [name for name in os.listdir(os.path.dirname(output)) if name.startswith(os.path.basename(output)) and
        name != os.path.basename(output)]
assert not left, left
print(f"killed {kills} times")
