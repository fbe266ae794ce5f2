#!/usr/bin/env python3
"""Runs a command and succeeds if it exits with the given code: exit.py 1 moec import ... (`not` would accept a crash).

    --file-limit BYTES   no file may grow beyond that, as on a full disk (RLIMIT_FSIZE)
    --max-rss MIB        the peak of resident memory
    --max-cpu SECONDS    processor time, which other jobs on the machine do not change
"""

import argparse
import resource
import subprocess
import sys

parser = argparse.ArgumentParser()
parser.add_argument("--file-limit", type=int)
parser.add_argument("--max-rss", type=int)
parser.add_argument("--max-cpu", type=float)
parser.add_argument("code", type=int)
parser.add_argument("command", nargs=argparse.REMAINDER)
args = parser.parse_args()


def limit():
    if args.file_limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (args.file_limit, args.file_limit))


code = subprocess.run(args.command, preexec_fn=limit).returncode
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
seconds, rss = usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024
if args.max_rss or args.max_cpu:
    print(f"exit.py: {seconds:.2f} s of processor time, {rss:.0f} MiB", file=sys.stderr)
if code != args.code:
    sys.exit(f"exit.py: exit code {code}, expected {args.code}: {' '.join(args.command)}")
if args.max_rss and rss > args.max_rss:
    sys.exit(f"exit.py: {rss:.0f} MiB resident, at most {args.max_rss} expected")
if args.max_cpu and seconds > args.max_cpu:
    sys.exit(f"exit.py: {seconds:.2f} s of processor time, at most {args.max_cpu} expected")
