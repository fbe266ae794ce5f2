#!/usr/bin/env python3
"""Runs a program and compares what it prints with a file: compare_facts.py PROGRAM FILE."""

import subprocess
import sys


def main():
    printed = subprocess.run([sys.argv[1]], check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    recorded = open(sys.argv[2], encoding="utf-8").read().splitlines()
    wrong = sorted(set(printed) ^ set(recorded))
    if wrong or len(printed) < 100:
        sys.exit("\n".join(["differ:"] + wrong))
    print(f"{len(printed)} facts are as recorded")


if __name__ == "__main__":
    main()
