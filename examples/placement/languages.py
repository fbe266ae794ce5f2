"""Records what a model routes on several texts, and tests the plan of each on the others.

    languages.py [--model DIR] [--ranks R] [--slots S] [--nodes N] NAME=TEXT.txt NAME=IDS.json ... [--test NAME=FILE ...]

Each source is a text, or (.json) token ids: a list, or a list of lists. The model is compiled with `--instrument routing`,
every source is recorded by `moe-run logits --record-routing`, and maps are planned by `moec place`: from each source alone
and from all. Every map is then judged on every source, and on those of --test, which no map is planned from:

    uniform   the map that engines start with: slot p holds expert p mod E
    EPLB      the published balancer, on the same recording as the plan
    plan      moec place
    resampled moec place --resample 16: planned for what else a recording of that length could have held
    null      the plan, with the experts of every layer renamed by chance (mean of 20): what is left of it when the
              recording says nothing about which experts are busy

Balancedness is the mean over layers of mean / max rank load under an even split over replicas. Traffic is the part of the
recorded pairs (two experts that a token chose) that lies on different nodes when replicas are taken by chance. Both are
computed here, from the maps and the recordings, without the planner's own code. What a plan achieves on the recording that
it was made from says little; sources that it has not seen are marked as held out.
"""

import argparse
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def run(*command):
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(f"languages.py: error: {' '.join(command)} failed:\n{result.stderr}")
    return result.stdout


def tokenize(path, package, length, folder):
    """The sequences of a source as a file that moe-run logits reads."""
    if path.endswith(".json"):
        ids = json.load(open(path))
        pieces = ids if ids and isinstance(ids[0], list) else [ids]
    else:
        pieces = [json.loads(run("moe-run", "generate", package, "--prompt-file", path, "--max-new", "0", "--json",
                                 "--no-special", "--quiet"))["prompt_ids"]]
    cut = [piece[at:at + length] for piece in pieces for at in range(0, len(piece), length)]
    out = os.path.join(folder, "ids.json")
    json.dump([piece for piece in cut if piece], open(out, "w"))
    return out, sum(map(len, cut))


def rank_loads(slots, counts, ranks):
    copies = [slots.count(e) for e in range(len(counts))]
    per_rank = len(slots) // ranks
    return [sum(counts[e] / copies[e] for e in slots[r * per_rank:(r + 1) * per_rank]) for r in range(ranks)]


def balancedness(layers, profile, ranks):
    total = 0
    for slots, counts in zip(layers, profile["counts"]):
        loads = rank_loads(slots, counts, ranks)
        total += sum(loads) / ranks / max(loads)
    return total / len(layers)


def traffic(layers, profile, ranks, nodes):
    """Part of the pairs of experts that a token chose whose replicas, drawn by chance, are on different nodes."""
    total = 0
    for slots, pairs in zip(layers, profile["pairs"]):
        per_node = len(slots) // nodes
        shares = {}
        for e in set(slots):
            on = [sum(s == e for s in slots[n * per_node:(n + 1) * per_node]) for n in range(nodes)]
            shares[e] = [c / sum(on) for c in on]
        apart = sum(n * (1 - sum(a * b for a, b in zip(shares[i], shares[j]))) for i, j, n in pairs)
        total += apart / sum(n for _, _, n in pairs)
    return total / len(layers)


def eplb(profiles, ranks, slots):
    """EPLB's global routine on the mean of normalised counts: replicas to the largest share, then longest first."""
    layers = []
    for rows in zip(*(p["counts"] for p in profiles)):
        weight = [sum(row[e] / sum(row) for row in rows) for e in range(len(rows[0]))]
        experts, copies = list(range(len(weight))), [1] * len(weight)
        while len(experts) < slots:
            hottest = max(range(len(weight)), key=lambda e: (weight[e] / copies[e], -e))
            experts.append(hottest)
            copies[hottest] += 1
        held, load = [[] for _ in range(ranks)], [0.0] * ranks
        for e in sorted(experts, key=lambda e: -weight[e] / copies[e]):
            free = [r for r in range(ranks) if len(held[r]) < slots // ranks]
            r = min(free, key=lambda r: (load[r], r))
            held[r].append(e)
            load[r] += weight[e] / copies[e]
        layers.append([e for rank in held for e in rank])
    return layers


def shuffled(layers, experts, rng):
    out = []
    for slots in layers:
        names = list(range(experts))
        rng.shuffle(names)
        out.append([names[e] for e in slots])
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default=os.path.join(ROOT, "examples/models/tiny-mixtral"))
    parser.add_argument("--ranks", type=int, default=4)
    parser.add_argument("--slots", type=int, default=20)
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--length", type=int, default=256, help="tokens per sequence")
    parser.add_argument("--target", default="cpu")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("sources", nargs="+", metavar="NAME=FILE")
    parser.add_argument("--test", nargs="+", default=[], metavar="NAME=FILE", help="sources that are only tested on")
    options = parser.parse_args()
    sources = dict(source.split("=", 1) for source in options.sources)
    tests = sources | dict(source.split("=", 1) for source in options.test)
    if len(sources) < 2:
        parser.error("needs two sources at least, to test the plan of one on another")
    ranks, nodes = options.ranks, options.nodes
    with tempfile.TemporaryDirectory() as folder:
        package = os.path.join(folder, "package")
        run("moec", "compile", options.model, "-o", package, "--dtype", "f32", "--target", options.target,
            "--instrument", "routing", "--quiet")
        profiles, files = {}, {}
        for name, path in tests.items():
            ids, tokens = tokenize(path, package, options.length, folder)
            files[name] = os.path.join(folder, name + ".json")
            run("moe-run", "logits", package, "--ids-file", ids, "-o", os.path.join(folder, "logits.npy"), "--quiet",
                "--record-routing", files[name])
            profiles[name] = json.load(open(files[name]))["profiles"][0]
            print(f"recorded {name}: {tokens} tokens", file=sys.stderr)
        experts, rows, rng = len(next(iter(profiles.values()))["counts"][0]), [], random.Random(1)
        trivial = [[p % experts for p in range(options.slots)]] * len(next(iter(profiles.values()))["counts"])
        plans = {name: [name] for name in sources} | {"all": list(sources)}
        for name, used in plans.items():
            out = os.path.join(folder, "map.json")
            base = ["moec", "place", *(files[u] for u in used), "--ranks", str(ranks), "--slots", str(options.slots),
                    "--model", options.model, "-o", out, "--quiet"]
            maps = {"uniform": [trivial], "EPLB": [eplb([profiles[u] for u in used], ranks, options.slots)]}
            for kind, extra in (("plan", ["--nodes", "1"]), ("resampled", ["--nodes", "1", "--resample", "16"]),
                                (f"plan, {nodes} nodes", ["--nodes", str(nodes)])):
                run(*base, *extra)
                layers = [layer["slots"] for layer in json.load(open(out))["layers"]]
                maps[kind] = [layers]
                if kind == "plan":
                    maps["null"] = [shuffled(layers, experts, rng) for _ in range(20)]
            for test, kind in itertools.product(tests, maps):
                several = maps[kind]
                mean = lambda judge: sum(judge(layers) for layers in several) / len(several)
                rows.append({"from": name, "on": test, "map": kind,
                             "balancedness": mean(lambda layers: balancedness(layers, profiles[test], ranks)),
                             "traffic": mean(lambda layers: traffic(layers, profiles[test], ranks, nodes))})
    if options.json:
        print(json.dumps(rows))
        return
    kinds = list(maps)
    print("balancedness / pairs of a token's experts on different nodes\n")
    print("| planned from | tested on | " + " | ".join(kinds) + " |\n|---|---|" + "---|" * len(kinds))
    for name, test in itertools.product(plans, tests):
        cells = [next(r for r in rows if (r["from"], r["on"], r["map"]) == (name, test, kind)) for kind in kinds]
        held = "" if test in plans[name] else " (held out)"
        print(f"| {name} | {test}{held} | " + " | ".join(f"{c['balancedness']:.3f} / {c['traffic']:.3f}" for c in cells) + " |")


main()
