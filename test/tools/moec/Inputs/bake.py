"""A checkpoint with DeepSeek's router, and the check that a baked one routes alike.

    bake.py make DIR STATS       two decoder layers (the first dense), 16 experts in 4 groups, correction bias, two files
    bake.py check DIR OUT MAP    every expert moved whole, with its router row and bias; tokens choose the same experts
"""

import json
import math
import os
import random
import struct
import sys

EXPERTS, GROUPS, TOP_GROUPS, TOP_K, HIDDEN, WIDTH = 16, 4, 2, 4, 8, 4


def write(path, tensors):
    header, data = {}, b""
    for name, (shape, values) in tensors.items():
        blob = struct.pack(f"<{len(values)}f", *values)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(blob)]}
        data += blob
    text = json.dumps(header).encode()
    open(path, "wb").write(struct.pack("<Q", len(text)) + text + data)


def read(folder):
    tensors = {}
    for name in sorted(os.listdir(folder)):
        if name.endswith(".safetensors"):
            blob = open(os.path.join(folder, name), "rb").read()
            size = struct.unpack("<Q", blob[:8])[0]
            for key, info in json.loads(blob[8 : 8 + size]).items():
                begin, end = (8 + size + at for at in info["data_offsets"])
                tensors[key] = struct.unpack(f"<{(end - begin) // 4}f", blob[begin:end])
                assert len(tensors[key]) == math.prod(info["shape"])
    return tensors


def make(folder, stats):
    rng = random.Random(3)
    tensor = lambda *shape: (list(shape), [rng.gauss(0, 1) for _ in range(math.prod(shape))])
    dense = {"model.embed_tokens.weight": tensor(10, HIDDEN), "model.layers.0.mlp.up_proj.weight": tensor(WIDTH, HIDDEN)}
    moe = {"model.layers.1.mlp.gate.weight": tensor(EXPERTS, HIDDEN),
           "model.layers.1.mlp.gate.e_score_correction_bias": tensor(EXPERTS),
           "model.layers.1.mlp.shared_experts.up_proj.weight": tensor(EXPERTS, HIDDEN)}
    for expert in range(EXPERTS):
        for part in ("gate_proj", "up_proj", "down_proj"):
            moe[f"model.layers.1.mlp.experts.{expert}.{part}.weight"] = tensor(WIDTH, HIDDEN)
    os.makedirs(folder)
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    write(os.path.join(folder, names[0]), dense)
    write(os.path.join(folder, names[1]), moe)
    weight_map = {**dict.fromkeys(dense, names[0]), **dict.fromkeys(moe, names[1])}
    json.dump({"metadata": {}, "weight_map": weight_map}, open(os.path.join(folder, "model.safetensors.index.json"), "w"))
    json.dump({"num_hidden_layers": 2, "first_k_dense_replace": 1, "n_routed_experts": EXPERTS, "n_group": GROUPS,
               "topk_group": TOP_GROUPS, "num_experts_per_tok": TOP_K, "hidden_size": HIDDEN,
               "moe_intermediate_size": WIDTH}, open(os.path.join(folder, "config.json"), "w"))
    counts = [0] * EXPERTS, [round(1000 * math.exp(rng.gauss(0, 1))) for _ in range(EXPERTS)]
    json.dump({"logical_count": counts}, open(stats, "w"))


def route(tensors, token):
    """DeepSeek's router: sigmoid scores, groups by their two best biased scores, the best experts of the best groups."""
    gate, bias = (tensors[f"model.layers.1.mlp.gate.{leaf}"] for leaf in ("weight", "e_score_correction_bias"))
    score = [1 / (1 + math.exp(-sum(a * b for a, b in zip(gate[e * HIDDEN : (e + 1) * HIDDEN], token))))
             for e in range(EXPERTS)]
    biased = [s + b for s, b in zip(score, bias)]
    size = EXPERTS // GROUPS
    best = sorted(range(GROUPS), key=lambda g: -sum(sorted(biased[g * size : (g + 1) * size])[-2:]))[:TOP_GROUPS]
    inside = [e for g in best for e in range(g * size, (g + 1) * size)]
    chosen = sorted(inside, key=lambda e: -biased[e])[:TOP_K]
    return [(e, score[e]) for e in chosen]


def check(folder, out, placement):
    old, new = read(folder), read(out)
    order = json.load(open(placement))["layers"][0]["slots"]
    assert order != sorted(order) and sorted(order) == list(range(EXPERTS))
    assert old.keys() == new.keys()
    index = json.load(open(os.path.join(out, "model.safetensors.index.json")))["weight_map"]
    assert index.keys() == new.keys()
    for name in old:
        if ".experts." not in name and ".gate." not in name:
            assert old[name] == new[name], name
    for slot, expert in enumerate(order):
        for part in ("gate_proj", "up_proj", "down_proj"):
            name = "model.layers.1.mlp.experts.{}.%s.weight" % part
            assert new[name.format(slot)] == old[name.format(expert)]
    rng = random.Random(5)
    for _ in range(500):
        token = [rng.gauss(0, 1) for _ in range(HIDDEN)]
        assert [(order[slot], score) for slot, score in route(new, token)] == route(old, token)
    print("routes alike")


{"make": make, "check": check}[sys.argv[1]](*sys.argv[2:])
