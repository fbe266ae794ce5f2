"""Writes routing.json: routing statistics in the form of a small model, from a seed (no model was run).

Six MoE layers of 16 experts, 2 per token, two workloads of four windows each. Experts differ in load (log-normal), the
second workload drifts, and experts of a pair of "topics" are chosen together more often than chance.
"""

import json
import math
import random

LAYERS, EXPERTS, TOKENS, WINDOWS = 6, 16, 4000, 4

rng = random.Random(7)


def workload(name, tables):
    counts = [[0] * EXPERTS for _ in range(LAYERS)]
    windows, pairs = [], [{} for _ in range(LAYERS)]
    for _ in range(WINDOWS):
        window = [[0] * EXPERTS for _ in range(LAYERS)]
        for layer, (weights, topics) in enumerate(tables):
            for _ in range(TOKENS // WINDOWS):
                first = rng.choices(range(EXPERTS), weights)[0]
                same = [w * (4 if topics[e] == topics[first] else 1) * (e != first) for e, w in enumerate(weights)]
                second = rng.choices(range(EXPERTS), same)[0]
                pair = tuple(sorted((first, second)))
                pairs[layer][pair] = pairs[layer].get(pair, 0) + 1
                for expert in pair:
                    window[layer][expert] += 1
                    counts[layer][expert] += 1
        windows.append({"counts": window})
    return {
        "name": name,
        "counts": counts,
        "windows": windows,
        "pairs": [[[a, b, n] for (a, b), n in sorted(layer.items())] for layer in pairs],
    }


base = []
for _ in range(LAYERS):
    weights = [math.exp(rng.gauss(0, 0.6)) for _ in range(EXPERTS)]
    topics = [e % 4 for e in range(EXPERTS)]
    rng.shuffle(topics)
    base.append((weights, topics))
drifted = [([w * math.exp(rng.gauss(0, 0.3)) for w in weights], topics) for weights, topics in base]


def write(path, profiles):
    head = {"format": "moe-routing", "version": 1, "experts": EXPERTS, "top_k": 2, "total_layers": LAYERS,
            "layers": list(range(LAYERS))}
    with open(path, "w") as file:
        file.write(json.dumps({**head, "profiles": profiles}, separators=(",", ":")) + "\n")


write("routing.json", [workload("day", base)])
write("routing-night.json", [workload("night", drifted)])
