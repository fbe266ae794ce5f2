"""What the .td files of a dialect say about its ops, attributes and types, read as text.

A definition is `def X : Moe_Op<"mnemonic", ...` (or _Attr, _Type) with `let summary` and `let description`. In the
description, "Constraints:" starts the list of labelled constraints and "Example:" the ```mlir blocks.
"""

import re
import textwrap
from dataclasses import dataclass, field
from pathlib import Path

DEFINITION = re.compile(
    r'^def \w+ : \w+_(?P<kind>Op|Attr|Type)<(?:"\w+", )?"(?P<mnemonic>\w+)"(?P<body>.*?)^}$', re.M | re.S
)
LABEL = re.compile(r"^\* \((?P<label>\w+_c\d+)\) (?P<text>.*?)(?=^\* |^$|\Z)", re.M | re.S)
PREFIX = {"Op": "", "Attr": "#", "Type": "!"}


@dataclass
class Definition:
    kind: str  # Op, Attr or Type
    name: str  # as in IR: moe.route, #moe.rope, !moe.kv_cache
    family: str  # the file without dialect and suffix: Routing
    summary: str
    description: str
    constraints: dict = field(default_factory=dict)  # label -> sentence
    examples: list = field(default_factory=list)  # MLIR text


def definitions(folder, dialect):
    """Every definition in the .td files of `folder`, in the order of the files and of their lines."""
    result = []
    for path in sorted(Path(folder).glob("*.td")):
        text = path.read_text()
        for match in DEFINITION.finditer(text):
            summary = re.search(r'let summary = "(.*?)";', match["body"])
            description = re.search(r"let description = \[\{\n(.*?)\n *\}\];", match["body"], re.S)
            name = f"{PREFIX[match['kind']]}{dialect}.{match['mnemonic']}"
            if not summary or not description:
                raise SystemExit(f"{path}: {name} has no summary or no description")
            prose = textwrap.dedent(description[1]).strip()
            constraints = {m["label"]: " ".join(m["text"].split()) for m in LABEL.finditer(prose)}
            examples = [textwrap.dedent(e).strip() for e in re.findall(r"```mlir\n(.*?)```", prose, re.S)]
            family = re.sub(r"^[A-Z][a-z]+|Ops$", "", path.stem)
            result.append(
                Definition(match["kind"], name, family, summary[1], prose, constraints, examples)
            )
    return result
