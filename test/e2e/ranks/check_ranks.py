#!/usr/bin/env python3
"""R ranks equal one rank: logits of ragged sequences, fed at once, token by token and in mixed batches.

    check_ranks.py [--mpirun] FAMILY...        expert, exact, tensor, fused, one-expert, padding

Ranks are threads, or with --mpirun processes of Open MPI.

The bound is 2e-4 in f32: with several ranks the sum over a token's experts (or over a branch's width) has another order, which
is all that differs; what was measured is printed. The exact exchange keeps the order, so that the bits are those of one rank
where an expert is on one rank only (else its rows may become so few on each that another kernel sums them). With fewer
sequences than ranks, some ranks have no token of their own.
"""

import array
import json
import os
import pathlib
import random
import shutil
import struct
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[3]
MODELS = ROOT / "examples/models"
BOUND = 2e-4
USES_MPI = False


def run(*command):
    result = subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if result.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: exit {result.returncode}\n{result.stderr}")
    return result.stdout


def compile_package(model, output, *options):
    run("moec", "compile", model, "-o", output, "--dtype", "f32", "--target", "cpu:host", "--max-tokens", 64, "--quiet",
        *options)
    return output


def read_npy(path):
    """The numbers of an .npy file of f32."""
    data = pathlib.Path(path).read_bytes()
    (length,) = struct.unpack_from("<H", data, 8)
    values = array.array("f")
    values.frombytes(data[10 + length:])
    return values


def moe_run(ranks, command, *arguments):
    """moe-run on so many ranks; on one, the package decides."""
    if ranks == 1:
        return run("moe-run", command, *arguments)
    if USES_MPI:
        # More ranks than cores are what a test has.
        return run("mpirun", "--oversubscribe", "-n", ranks, "moe-run", command, *arguments)
    return run("moe-run", command, *arguments, "--thread-ranks", ranks)


def logits(package, ids, folder, *options, ranks=1):
    (folder / "ids.json").write_text(json.dumps(ids))
    moe_run(ranks, "logits", package, "--ids-file", folder / "ids.json", "-o", folder / "out.npy", "--quiet", *options)
    return read_npy(folder / "out.npy")


def compare(name, one, several, ranks, folder, bound=BOUND):
    """Largest difference over all ways to feed, or the end."""
    rng = random.Random(7)
    draw = lambda *lengths: [[rng.randrange(3, 2000) for _ in range(n)] for n in lengths]
    ragged, alone = draw(23, 4, 11, 1, 7, 9, 2, 5, 3), draw(6)
    cases = [("prefill", ragged, ()),
             ("mixed", ragged, ("--chunks", "random:3", "--interleave", min(5, 2 * ranks))),
             ("decode", draw(5, 7, 3), ("--chunks", "token", "--interleave", 3)),
             ("one sequence", alone, ())]
    worst = 0.0
    for case, ids, options in cases:
        expected = logits(one, ids, folder, *options)
        actual = logits(several, ids, folder, *options, ranks=ranks)
        if len(expected) != len(actual):
            sys.exit(f"{name}, {case}: {len(actual)} logits instead of {len(expected)}")
        worst = max([worst] + [abs(a - b) for a, b in zip(expected, actual)])
        if not worst <= bound:  # NaN fails
            sys.exit(f"{name}, {ranks} ranks, {case}: logits differ by {worst}, but at most {bound} is allowed")
    print(f"{name}, {ranks} ranks: largest difference {worst:.1e}")


def check_counts(one, several, ranks):
    """The counts of experts are those of one rank, padding and replicas or not."""
    counts = [json.loads(moe_run(r, "generate", package, "--ids", "5,17,300,42,8", "--max-new", 6, "--json"))["expert_counts"]
              for package, r in ((one, 1), (several, ranks))]
    if counts[0] != counts[1]:
        sys.exit(f"{ranks} ranks count {counts[1]}, but one rank {counts[0]}")


def compile_placed(folder, ranks, slots, exchange):
    """The bundled Mixtral with its experts placed by what was recorded, with replicas in the further slots."""
    placement = folder / f"map{ranks}.json"
    run("moec", "place", ROOT / "examples/placement/routing.json", "--ranks", ranks, "--slots", slots, "-o", placement, "--quiet")
    return compile_package(MODELS / "tiny-mixtral", folder / f"placed{ranks}", "--plan", placement, "--exchange", exchange)


def check_expert(folder):
    """Experts placed by what was recorded, with redundant replicas, and in order."""
    one = compile_package(MODELS / "tiny-mixtral", folder / "one")
    for ranks, slots in ((2, 20), (4, 24), (8, 16)):
        several = compile_placed(folder, ranks, slots, "gather")
        compare(f"mixtral, {slots} slots", one, several, ranks, folder)
        check_counts(one, several, ranks)


def check_exact(folder):
    """Each token sent only to the ranks of its experts, in order and with replicas; and small steps one way, large ones the
    other."""
    one = compile_package(MODELS / "tiny-mixtral", folder / "one")
    for ranks, slots in ((2, 20), (4, 24), (8, 24)):
        several = compile_package(MODELS / "tiny-mixtral", folder / f"exact{ranks}", "--ranks", ranks, "--exchange", "exact")
        compare("mixtral, exact, in order", one, several, ranks, folder, bound=0)
        several = compile_placed(folder, ranks, slots, "exact")
        compare(f"mixtral, exact, {slots} slots", one, several, ranks, folder)
        check_counts(one, several, ranks)
    topology = folder / "topology.json"
    topology.write_text(json.dumps({"name": "slow links", "gpus_per_node": 1, "memory_gb_per_s": 10, "matmul_gflops": 100,
                                    "node_gb_per_s": 1, "network_gb_per_s": 0.5, "round_us": 30, "host_read_us": 90}))
    text = run("moec", "compile", MODELS / "tiny-mixtral", "-o", folder / "auto", "--dtype", "f32", "--target", "cpu:host",
               "--max-tokens", 64, "--json", "--quiet", "--ranks", 4, "--topology", topology)
    exchange = json.loads(text)["exchange"]
    if exchange["strategy"] != "auto" or exchange["few_tokens"] != "gather" or not 1 < exchange["changes_at"] < 23:
        sys.exit(f"the longest sequence has 23 tokens, so that both ways should be run: {exchange}")
    said = f"{exchange['gather']['seconds'] * 1e6:.1f} us + {exchange['gather']['seconds_per_token'] * 1e6:.3f} us per token"
    if not any(said in note and f"from {exchange['changes_at']} tokens" in note for note in json.loads(text)["notes"]):
        sys.exit(f"the note and the numbers differ: {text}")
    compare("mixtral, auto", one, folder / "auto", 4, folder)


def check_tensor(folder):
    """Heads, widths and experts; of 8 ranks each computes the attentions whole, of 4 two share a key/value head."""
    one = compile_package(MODELS / "tiny-llama", folder / "one")
    for ranks in (2, 4, 8):
        options = ("--attention", "whole") if ranks == 8 else ()
        several = compile_package(MODELS / "tiny-llama", folder / f"llama{ranks}", "--ranks", ranks, *options)
        compare("llama", one, several, ranks, folder)
    one = compile_package(MODELS / "tiny-mixtral", folder / "moe")
    several = compile_package(MODELS / "tiny-mixtral", folder / "moe2", "--ranks", 2, "--parallel", "tensor")
    compare("mixtral, heads and experts", one, several, 2, folder)
    check_counts(one, several, 2)


def check_fused(folder):
    """A fused model: what was joined is divided part by part, its attentions with shared heads on 4 ranks."""
    plan = folder / "plan.json"
    plan.write_text(json.dumps({"format": "moe-fusion-plan", "version": 1, "layers": 16, "remove_attention": [1],
                                "windows": [{"first": 2, "length": 3, "form": "D"}, {"first": 5, "length": 3, "form": "P"},
                                            {"first": 8, "length": 3, "form": "R"}]}))
    one = compile_package(MODELS / "tiny-llama", folder / "one", "--plan", plan)
    for ranks in (2, 4):
        several = compile_package(MODELS / "tiny-llama", folder / f"fused{ranks}", "--plan", plan, "--ranks", ranks)
        compare("llama, fused", one, several, ranks, folder)


def without_router(folder):
    """tiny-mixtral with routers of zeros: every token chooses experts 0 and 1, the lowest of equals."""
    copy = folder / "model"
    shutil.copytree(MODELS / "tiny-mixtral", copy)
    path = copy / "model.safetensors"
    data = bytearray(path.read_bytes())
    (length,) = struct.unpack_from("<Q", data)
    found = 0
    for name, tensor in json.loads(data[8:8 + length]).items():
        if name.endswith("block_sparse_moe.gate.weight"):
            begin, end = (8 + length + offset for offset in tensor["data_offsets"])
            data[begin:end] = bytes(end - begin)
            found += 1
    assert found == 6
    path.write_bytes(data)
    return copy


def check_one_expert(folder):
    """All tokens on two experts, none on the others; most ranks have nothing to do, some slots share one expert."""
    model = without_router(folder)
    one = compile_package(model, folder / "one")
    replicas = [0, 1, 2, 3, 4, 5, 6, 7, 0, 8, 9, 10, 11, 1, 0, 12, 13, 14, 15, 1]
    for name, slots, bound in (("in order", list(range(16)), 0), ("replicas", replicas, BOUND)):
        placement = folder / f"{name}.json"
        layers = [{"layer": layer, "slots": slots} for layer in range(6)]
        placement.write_text(json.dumps({"format": "moe-placement", "version": 1, "experts": 16, "ranks": 4,
                                         "slots": len(slots), "total_layers": 6, "layers": layers}))
        several = compile_package(model, folder / f"package {name}", "--plan", placement, "--exchange", "gather")
        # In order both experts are on rank 0, which sums as one rank does: the same bits.
        compare(f"one expert, {name}", one, several, 4, folder, bound)
        several = compile_package(model, folder / f"exact {name}", "--plan", placement, "--exchange", "exact")
        compare(f"one expert, {name}, exact", one, several, 4, folder, bound)


def check_padding(folder):
    """A rank with 3 tokens beside one with 48 gets 45 more, at positions beyond the model's context of 16; with and without
    a sliding window."""
    for window in (None, 5):
        model = folder / f"model{window}"
        shutil.copytree(MODELS / "tiny-mixtral", model)
        config = json.loads((model / "config.json").read_text())
        config.update(max_position_embeddings=16, sliding_window=window)
        (model / "config.json").write_text(json.dumps(config))
        one = compile_package(model, folder / f"one{window}")
        rng = random.Random(5)
        ids = [[rng.randrange(3, 2000) for _ in range(n)] for n in (16, 1, 16, 1, 16, 1)]
        expected = logits(one, ids, folder, "--interleave", 6)
        for exchange, bound in (("gather", BOUND), ("exact", 0)):
            several = compile_package(model, folder / f"{exchange}{window}", "--ranks", 2, "--exchange", exchange)
            actual = logits(several, ids, folder, "--interleave", 6, ranks=2)
            worst = max(abs(a - b) for a, b in zip(expected, actual, strict=True))
            if not worst <= bound:
                sys.exit(f"padding, window {window}, {exchange}: logits differ by {worst}, but at most {bound} is allowed")
            print(f"padding beyond the context, window {window}, {exchange}: largest difference {worst:.1e}")


def main():
    checks = {"expert": check_expert, "exact": check_exact, "tensor": check_tensor, "fused": check_fused, "one-expert": check_one_expert,
              "padding": check_padding}
    families = sys.argv[1:]
    if families and families[0] == "--mpirun":
        global USES_MPI
        USES_MPI = bool(families.pop(0))
        # As root mpirun wants to be asked twice.
        os.environ["OMPI_ALLOW_RUN_AS_ROOT"] = os.environ["OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] = "1"
    for family in families:
        with tempfile.TemporaryDirectory() as folder:
            checks[family](pathlib.Path(folder))


if __name__ == "__main__":
    main()
