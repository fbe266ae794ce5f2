#!/usr/bin/env python3
"""The demo's output: prompts in six languages through `moe-run generate`, and which experts each language used.

    demo.py MOE_RUN PACKAGE

Runs the tool as a user would (one command per prompt, shown) and reads its --json; computes nothing but percentages.
"""

import json
import shlex
import subprocess
import sys

PROMPTS = {
    "English": "The best way to learn is",
    "German": "Wer nicht hören will, muss",
    "Spanish": "El que mucho abarca, poco",
    "Italian": "Chi va piano, va sano e",
    "Python": "def read_lines(path):\n    ",
    "C++": "template <typename T>\nclass ",
}
NEW_TOKENS = 40
WIDTH = 100


def generate(moe_run, package, prompt):
    command = [moe_run, "generate", package, "--prompt", prompt, "--max-new", str(NEW_TOKENS), "--json"]
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8")
    if result.returncode != 0:
        sys.exit(f"demo: {shlex.join(command)} failed with status {result.returncode}:\n{result.stderr}")
    return json.loads(result.stdout)


def indent(text):
    return "\n".join("      | " + line[:WIDTH].rstrip() for line in text.split("\n"))


def shares(counts):
    """Counts as percentages of their sum."""
    return [100 * count / max(1, sum(counts)) for count in counts]


def distance(rows):
    """How much several distributions differ: the L1 distance of all pairs, added up."""
    return sum(abs(a - b) for i, row in enumerate(rows) for other in rows[:i] for a, b in zip(row, other))


def main():
    moe_run, package = sys.argv[1:]
    counts = {}
    for language, prompt in PROMPTS.items():
        answer = generate(moe_run, package, prompt)
        print(f"    {language}: {prompt!r}")
        sequence = answer["sequences"][0]
        print(indent(prompt + sequence["text"]))
        print(f"      {sequence['generated']} tokens, {answer['decode_tokens_per_second']:.0f} tokens/s\n")
        counts[language] = [shares(layer) for layer in answer["expert_counts"]]

    layers, experts = len(counts["English"]), len(counts["English"][0])
    layer = max(range(layers), key=lambda index: distance([rows[index] for rows in counts.values()]))
    print(f"    Which experts each language used: share of the routed tokens in %, {100 / experts:.0f} would be even.")
    print(f"    MoE layer {layer} of {layers}, where the languages differ most; * marks the busiest expert:")
    print(f"      {'':<8}" + "".join(f"{'E' + str(expert):>5}" for expert in range(experts)).rstrip())
    for language, rows in counts.items():
        row = rows[layer]
        cells = "".join(f"{share:>4.0f}{'*' if share == max(row) else ' '}" for share in row)
        print(f"      {language:<8}" + cells.rstrip())


if __name__ == "__main__":
    main()
