#!/usr/bin/env python3
"""Changes the last result of integers in a file of recorded launches by one bit: spoil_launch.py FILE.launches.xz"""
import lzma
import pathlib
import re
import sys

path = pathlib.Path(sys.argv[1])
data = bytearray(lzma.decompress(path.read_bytes()))
last = list(re.finditer(rb"update i64 (\d+) 0 0\n", data))[-1]
# What was there before, then what came out.
data[last.end() + 2 * int(last[1]) - 8] ^= 1
path.write_bytes(lzma.compress(bytes(data)))
