"""The least time that a kernel could take: bytes that it must move over the bandwidth, or operations over the card's peak.

A launch tells its sizes itself: operands are listed in lowering/Kernels/KernelConfigs.h, one 64-bit word each, and the name
says types and form. Of experts only those with tokens are read, as counted in that step. Kernels that move next to nothing
(routing, sorting, angles) have no floor but a launch, and None here.
"""

import re

WIDTH = {"f32": 4, "bf16": 2, "f16": 2}


def types_of(name):
    return [WIDTH[word] for word in re.findall(r"(?<=_)(?:f32|bf16|f16)(?=_|$)", name)]


def linear(name, words, grid):
    x, weight, out = types_of(name)[:3]
    k, rows = words[1], words[2]
    gated, bias = "_gated" in name, "_bias_" in name
    segments = int((re.search(r"_x(\d+)(?:_|$)", name) or [0, 1])[1])
    per_segment = 3 + gated + bias + ("_upbias_" in name)
    total = moved = 0
    for segment in range(segments):
        n = words[3 + segment * per_segment + 1 + gated]
        moved += n * k * weight * (1 + gated) + rows * n * out * (1 + ("_residual" in name))
        total += n
    return moved + rows * k * x, 2 * rows * k * total * (1 + gated)


def experts(name, words, counts):
    x, weight, out = types_of(name)[:3]
    gated, up = "_gated" in name, "_up_" in name
    k, top_k, n = words[1], words[5], words[7 + gated]
    choices, active = sum(counts), sum(count > 0 for count in counts)
    rows = choices // top_k if up else choices
    return active * n * k * weight * (1 + gated) + rows * k * x + choices * n * out, 2 * choices * k * n * (1 + gated)


def attention(name, words, grid):
    """Queries are causal from position 0 on, as bench-gpu makes them; keys and values are read once."""
    width, head = types_of(name)[:2], int(re.search(r"_d(\d+)", name)[1])
    rows, groups, queries = words[6], words[7], words[8]
    moved = rows * groups * head * (2 * queries * width[0] + 2 * width[1])
    return moved, 4 * groups * queries * head * rows * (rows + 1) // 2


def rows_of(name, words, grid):
    """Kernels that read rows and write as many: (elements read per row by type, elements written)."""
    types = types_of(name)
    if name.startswith("rms_norm"):
        return grid * words[3] * words[4] * (types[0] + types[2])
    if name.startswith("embedding"):
        return grid * words[3] * (types[0] + types[1])
    if name.startswith("add"):
        return grid * words[3] * sum(types)
    if name.startswith("combine"):
        return grid * words[3] * (words[4] * types[0] + types[1] * (1 + ("_residual" in name)))
    if name == "pick":
        return grid * words[2] * WIDTH["f32"]
    if name.startswith("cache_write"):
        return grid * (words[6] + words[7]) * (types[0] + types[1])
    if name.startswith("rope_") and name != "rope_angles":
        return grid * words[3] * words[4] * 2 * types[0]
    return None


def cost(command, counts):
    """(bytes, operations) of a launch, or None; `counts` are the tokens of each expert of its layer."""
    name, words, grid = command["name"], command["words"], command["grid"]
    if name.startswith("linear"):
        return linear(name, words, grid)
    if name.startswith("experts"):
        return experts(name, words, counts)
    if name.startswith("attention"):
        return attention(name, words, grid)
    if name in ("copy", "fill"):
        return command["bytes"] * (2 if name == "copy" else 1), 0
    moved = rows_of(name, words, grid)
    return None if moved is None else (moved, 0)


def seconds(moved, operations, machine):
    return max(moved / machine["bytes_per_second"], operations / machine["flops"])


def of_step(step, machine):
    """Floor in microseconds per command of a step that bench-gpu measured; None where there is none."""
    floors, layer = [], -1
    for command in step["commands"]:
        layer += command["name"].startswith("experts_up")
        found = cost(command, step["experts"][layer] if 0 <= layer < len(step["experts"]) else [])
        floors.append(None if found is None else 1e6 * seconds(*found, machine))
    return floors


def moe_layer(hidden, width, experts, active, tokens, top_k, machine):
    """A MoE layer from x to y: active experts and the router once, x and y; microseconds."""
    moved = active * 3 * hidden * width * 2 + 2 * tokens * hidden * 2 + experts * hidden * 2
    operations = 2 * tokens * top_k * 3 * hidden * width + 2 * tokens * hidden * experts
    return 1e6 * seconds(moved, operations, machine)
