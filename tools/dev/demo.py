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
    return "\n".join("      | " + line[:WIDTH] for line in text.split("\n"))


def main():
    moe_run, package = sys.argv[1:]
    counts = {}
    for language, prompt in PROMPTS.items():
        answer = generate(moe_run, package, prompt)
        print(f"    {language}: {prompt!r}")
        sequence = answer["sequences"][0]
        print(indent(prompt + sequence["text"]))
        print(f"      {sequence['generated']} tokens, {answer['decode_tokens_per_second']:.0f} tokens/s\n")
        # Counts are per layer and expert; the table adds the layers up.
        counts[language] = [sum(layer) for layer in zip(*answer["expert_counts"])]

    experts = len(next(iter(counts.values())))
    print(f"    Share of the routed tokens per expert in %, all layers together; {100 / experts:.1f} would be even:")
    print(f"      {'':<8}" + "".join(f"{'E' + str(expert):>5}" for expert in range(experts)))
    for language, row in counts.items():
        shares = [100 * count / max(1, sum(row)) for count in row]
        top = max(shares)
        cells = "".join(f"{share:>4.0f}{'*' if share == top else ' '}" for share in shares)
        print(f"      {language:<8}" + cells)
    print("      (* the busiest expert of that language)")


if __name__ == "__main__":
    main()
