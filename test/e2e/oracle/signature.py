"""What `moe-lower-to-linalg` says about a function: its arguments and results, in order.

An argument carries `moe.state = "<state>.keys|values"` or `moe.weight = "<tensor of the checkpoint>"`; the others are
the step's own inputs.
"""

import re
from dataclasses import dataclass

import numpy as np


@dataclass
class Argument:
    element: str
    shape: list  # None: dynamic
    state: str = None
    weight: str = None


def parse_type(text):
    *dims, element = re.fullmatch(r"tensor<(.*)>", text).group(1).split("x")
    return element, [None if dim == "?" else int(dim) for dim in dims]


def parse_signature(text, function="step"):
    """([Argument], [result types]) of `function` in linalg text."""
    match = re.search(rf"func\.func @{re.escape(function)}\((.*?)\) (?:-> \(?(.*?)\)? )?(?:attributes .*)?\{{$", text, re.M)
    if not match:
        raise ValueError(f"no function @{function} in the linalg text")
    arguments = []
    for type_text, attributes in re.findall(r"%\w+: (tensor<[^>]*>)(?: \{(.*?)\})?(?:, |$)", match.group(1)):
        element, shape = parse_type(type_text)
        names = dict(re.findall(r'moe\.(state|weight) = "([^"]*)"', attributes))
        arguments.append(Argument(element, shape, **names))
    results = [parse_type(type_text) for type_text in re.findall(r"tensor<[^>]*>", match.group(2) or "")]
    return arguments, results


def bind(arguments, inputs, states, weight):
    """The storage arrays of every argument. `inputs`: the step's own, in order. `states`: {"name.keys": array}.
    `weight(source, shape)`: (element, array)."""
    own, bound = iter(inputs), []
    for argument in arguments:
        if argument.state:
            bound.append(states[argument.state])
        elif argument.weight:
            element, stored = weight(argument.weight, argument.shape)
            if element != argument.element or list(stored.shape) != argument.shape:
                raise ValueError(f"weight '{argument.weight}' is {element}{list(stored.shape)}, but the module says "
                                 f"{argument.element}{argument.shape}: is this the checkpoint it was made from?")
            bound.append(stored)
        else:
            bound.append(np.asarray(next(own)))
    return bound


def zero_states(arguments, sequences, context, storage):
    """Caches as a session starts with: zero, [B, C, G, D]."""
    return {a.state: np.zeros([sequences, context] + a.shape[2:], storage[a.element]) for a in arguments if a.state}


def step_inputs(sequences, rows=None, start=None):
    """tokens, seq, pos, runs, rows of a step that feeds every list of ids in `sequences` to the slot of its number,
    from position start[slot] (0) on. rows: which tokens' logits (all)."""
    start = start or [0] * len(sequences)
    tokens = [token for ids in sequences for token in ids]
    seq = [slot for slot, ids in enumerate(sequences) for _ in ids]
    pos = [start[slot] + i for slot, ids in enumerate(sequences) for i in range(len(ids))]
    runs = np.cumsum([0] + [len(ids) for ids in sequences])
    rows = range(len(tokens)) if rows is None else rows
    return [np.array(values, dtype=np.int32) for values in (tokens, seq, pos, list(runs), list(rows))]
