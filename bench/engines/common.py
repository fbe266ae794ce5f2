"""What every engine of bench/run.py is: a process that loads the model once and measures on request.

A worker prints one JSON line when it is ready, then for each line `go` on its input one JSON line
{"prefill": seconds, "decode": seconds, "tokens": [greedy ids]}. It ends when its input does. So the driver can measure the
engines in turn, and what disturbs the machine disturbs all of them.
"""

import json
import sys


def serve(facts, measure):
    """`facts` goes into the report; `measure()` returns (prefill seconds, decode seconds, greedy ids)."""
    print(json.dumps(facts), flush=True)
    for line in sys.stdin:
        if line.strip() == "go":
            prefill, decode, tokens = measure()
            print(json.dumps({"prefill": prefill, "decode": decode, "tokens": tokens}), flush=True)
