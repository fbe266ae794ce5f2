#!/usr/bin/env python3
"""Prints every example of the sched dialect's documentation as a program, for moe-opt to parse and round-trip.

    sched_examples.py [FOLDER]

An example stands at its level of a program (beside tensors, in a variant or in a step); what it names and does not
declare itself is declared around it. Programs are separated by `// -----`. An op without an example is an error.
"""

import re
import sys
from pathlib import Path

PROGRAM_LEVEL = ("file", "package_file", "tensor", "table", "variant")
VARIANT_LEVEL = ("kernel", "buffer", "constant", "initializer", "step", "entry")
HASH = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
# In order of declaration: name, level, declaration.
DECLARATIONS = [
    ("model.safetensors", "program", f'sched.file @model.safetensors size 9437184 mtime_ns 0 header "{HASH}"'),
    ("layers.0.q_proj.weight", "program", "sched.tensor @layers.0.q_proj.weight : tensor<128x128xbf16>"),
    ("layers.0.experts.0.w1", "program", "sched.tensor @layers.0.experts.0.w1 : tensor<64x128xbf16>"),
    ("layers.0.experts.1.w1", "program", "sched.tensor @layers.0.experts.1.w1 : tensor<64x128xbf16>"),
    ("layers.1.experts.w1", "program", "sched.tensor @layers.1.experts.w1 : tensor<4x128x128xbf16>"),
    ("layers.0.qkv", "program", "sched.tensor @layers.0.qkv computed : tensor<256x128xbf16>"),
    ("layers.0.w1", "program", "sched.table @layers.0.w1 [@layers.0.q_proj.weight]"),
    ("gemv_bf16_f32", "variant", "sched.kernel @gemv_bf16_f32"),
    ("arena", "variant", "sched.buffer @arena arena size 1048576"),
    ("tokens", "variant", "sched.buffer @tokens input size 4*T"),
    ("ffn.0.in0", "variant", "sched.buffer @ffn.0.in0 input size 512*T"),
    ("ffn.0.out0", "variant", "sched.buffer @ffn.0.out0 output size 512*T"),
]


def program(op, example):
    """A whole program around the example of an op."""
    if op == "program":
        return example
    used = set(re.findall(r"@([\w.]+)", example))
    declared = set(re.findall(r"sched\.(?:file|tensor|table|kernel|buffer|constant) @([\w.]+)", example))
    if "layers.0.w1" in used - declared:
        used.add("layers.0.q_proj.weight")
    around = {level: [text for name, at, text in DECLARATIONS if at == level and name in used - declared]
              for level in ("program", "variant")}
    if op in PROGRAM_LEVEL:
        lines = around["program"] + [example]
    else:
        if op not in VARIANT_LEVEL:
            example = "sched.step tokens 1 to 512 {\n" + example + "\n}"
        elif op == "step":
            example += "\nsched.step tokens 9 to 512 {\n}"
        else:
            example += "\nsched.step tokens 1 to 512 {\n}"
        variant = around["variant"] + [example]
        lines = around["program"] + ['sched.variant "cpu" streams 2 events 1 {', *variant, "}"]
    return "\n".join(["sched.program vocab 8192 max_tokens 512 max_context 0 dtype bf16 {", *lines, "}"])


def main():
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[2]
    text = (root / "dialects/Sched/IR/SchedOps.td").read_text()
    programs = []
    for match in re.finditer(r'^def \w+Op : \w+<"(\w+)"(.*?)^}$', text, re.M | re.S):
        example = re.search(r"```mlir\n(.*?)```", match[2], re.S)
        if not example:
            sys.exit(f"sched.{match[1]} has no example")
        if f"sched.{match[1]}" not in example[1]:
            sys.exit(f"the example of sched.{match[1]} is another op: {example[1]}")
        programs.append(program(match[1], example[1]))
    print("\n// -----\n".join(programs))


if __name__ == "__main__":
    main()
