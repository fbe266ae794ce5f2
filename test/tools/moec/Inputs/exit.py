#!/usr/bin/env python3
"""Runs a command and succeeds if it exits with the given code: exit.py 1 moec import ... (`not` would accept a crash).

    --file-limit BYTES   no file may grow beyond that, as on a full disk (RLIMIT_FSIZE)
    --max-rss MIB        the peak of resident memory
    --max-seconds S      wall time
"""

import argparse
import resource
import subprocess
import sys
import time

parser = argparse.ArgumentParser()
parser.add_argument("--file-limit", type=int)
parser.add_argument("--max-rss", type=int)
parser.add_argument("--max-seconds", type=float)
parser.add_argument("code", type=int)
parser.add_argument("command", nargs=argparse.REMAINDER)
args = parser.parse_args()


def limit():
    if args.file_limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (args.file_limit, args.file_limit))


start = time.monotonic()
code = subprocess.run(args.command, preexec_fn=limit).returncode
seconds = time.monotonic() - start
rss = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
if args.max_rss or args.max_seconds:
    print(f"exit.py: {seconds:.2f} s, {rss:.0f} MiB", file=sys.stderr)
if code != args.code:
    sys.exit(f"exit.py: exit code {code}, expected {args.code}: {' '.join(args.command)}")
if args.max_rss and rss > args.max_rss:
    sys.exit(f"exit.py: {rss:.0f} MiB resident, at most {args.max_rss} expected")
if args.max_seconds and seconds > args.max_seconds:
    sys.exit(f"exit.py: {seconds:.2f} s, at most {args.max_seconds} expected")
