#!/usr/bin/env python3
"""Prints one module that holds every example of the dialect's documentation, for moe-opt to parse and round-trip.

    op_examples.py [FOLDER]

An op's operands become arguments of a function: in the dialect's syntax operands and their types stand in one order,
so the n-th `%name` of the text has the n-th type before `->`. Declarations (weights, states) come first, so that the
symbols which examples use are those that other examples declare. An op without an example is an error.
"""

import re
import sys
from pathlib import Path

from dialect_td import definitions

TYPE = re.compile(r"tensor<[^>]*>|!moe\.\w+<[^>]*>")


def statements(example):
    """The ops of an example: a line that is indented or starts with a sign continues the op before it."""
    result = []
    for line in example.splitlines():
        if result and (line.startswith((" ", "->", ":"))):
            result[-1] += " " + line.strip()
        else:
            result.append(line)
    return result


def function(number, statement):
    """A function around one op."""
    text, types = re.split(r" : (?=[^:]*(?:tensor|!))", statement, maxsplit=1)
    operands = re.findall(r"%\w+", text.split(" = ", 1)[-1])
    if not operands:
        types = "-> " + types
    types = TYPE.findall(types.split("->")[0])
    if len(operands) != len(types):
        sys.exit(f"{statement}: {len(operands)} operands, but {len(types)} types")
    arguments = ", ".join(f"{o}: {t}" for o, t in dict(zip(operands, types)).items())
    return f"func.func @example_{number}({arguments}) {{\n  {statement}\n  return\n}}"


def main():
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[2]
    declarations, functions = [], []
    for definition in definitions(root / "dialects/Moe/IR", "moe"):
        if not definition.examples:
            sys.exit(f"{definition.name} has no example")
        for example in definition.examples:
            if definition.kind != "Op":
                functions.append(f"func.func private @example_{len(functions)}() attributes {{value = {example}}}")
                continue
            for statement in statements(example):
                if definition.name not in statement:
                    sys.exit(f"the example of {definition.name} is another op: {statement}")
                if "%" in statement:
                    functions.append(function(len(functions), statement))
                else:
                    declarations.append(statement)
    print("\n".join(declarations + functions))


if __name__ == "__main__":
    main()
