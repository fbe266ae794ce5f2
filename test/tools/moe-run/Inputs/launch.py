#!/usr/bin/env python3
"""Starts a command N times as torchrun does: each process is told which it is and where to meet.

    launch.py N COMMAND...

The exit code is the largest of all.
"""

import os
import socket
import subprocess
import sys

ranks = int(sys.argv[1])
# Bound as long as they run, so that nobody else is given it; with SO_REUSEADDR, as ranks say it, they may listen there.
meeting = socket.socket()
meeting.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
meeting.bind(("127.0.0.1", 0))
port = meeting.getsockname()[1]
processes = []
for rank in range(ranks):
    place = {"RANK": rank, "WORLD_SIZE": ranks, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": ranks, "MASTER_ADDR": "127.0.0.1",
             "MASTER_PORT": port}
    processes.append(subprocess.Popen(sys.argv[2:], env={**os.environ, **{name: str(value) for name, value in place.items()}}))
sys.exit(max(process.wait() for process in processes))
