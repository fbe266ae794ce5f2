#!/usr/bin/env python3
"""batch.py PKG: the same prompts one by one and in one batch, and expert counts."""

import json
import subprocess
import sys

PROMPTS = ["The best way to learn is", "Wer nicht hören will, muss", "def read_lines(path):\n    "]


def generate(*prompts):
    arguments = [argument for prompt in prompts for argument in ("--prompt", prompt)]
    command = ["moe-run", "generate", sys.argv[1], *arguments, "--max-new", "12", "--ignore-eos", "--json"]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, encoding="utf-8").stdout)


single = [generate(prompt) for prompt in PROMPTS]
batch = generate(*PROMPTS)
same = sum(one["text"] == other["text"] for one, other in zip(single, batch["sequences"]))
print(f"one by one and in a batch: {same} equal texts")

# Every token but a sequence's last is fed, to K experts of each layer.
fed = sum(len(s["prompt_ids"]) + s["generated"] - 1 for s in batch["sequences"])
counts = batch["expert_counts"]
assert len({sum(layer) for layer in counts}) == 1, counts
print(f"{len(counts)} layers of {len(counts[0])} experts, {sum(counts[0]) // fed} per token")
assert sum(counts[0]) % fed == 0
