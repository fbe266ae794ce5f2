"""One attention layer and one FFN or MoE layer of each bundled model, against what transformers computed for them.

    check_layers.py [--backend native|iree]...     default: native
    check_layers.py --record                       makes fixtures/ again (needs torch and transformers)

A fixture holds, for one layer, the inputs and outputs of the official self_attn and mlp modules in f32 while the model
read ids that it had sampled itself (those of test/golden). Here the same layer is written as moe IR, lowered, and run.
Bound: max |d| <= 1e-5 max |y|; all in f32, sums in another order.
"""

import argparse
import json
import os
import sys
import tempfile

import numpy as np

from backends import BACKENDS, lower
from graph import Graph
from signature import bind, step_inputs, zero_states
from tensors import STORAGE, Checkpoint

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(HERE)))
LAYERS = {"tiny-llama": 7, "tiny-mixtral": 3}
TOKENS = 13
FLAT = 128  # H, and Q * D, of both


def checkpoint_folder(model):
    return os.path.join(ROOT, "examples", "models", model)


def fixture_path(model):
    return os.path.join(HERE, "fixtures", f"{model}.npz")


def start(name):
    return Graph(inputs={"x": ([None, FLAT], "f32")}), f"model.layers.{LAYERS[name]}."


def attention_module(name, config):
    g, prefix = start(name)
    x, heads, kv, width = g.arguments["x"], config["num_attention_heads"], config["num_key_value_heads"], config["head_dim"]
    weight = lambda part, rows, columns: g.weight(f"{prefix}self_attn.{part}.weight", [rows, columns], "bf16")
    q = g.linear(x, weight("q_proj", heads * width, FLAT))
    k, v = (g.linear(x, weight(f"{part}_proj", kv * width, FLAT)) for part in "kv")
    theta = config["rope_parameters"]["rope_theta"]
    q, k = g.rope(q, heads, theta=theta), g.rope(k, kv, theta=theta)
    g.state("kv", kv, width, width, "f32")
    a = g.attention(q, k, v, "kv", heads, kv, width**-0.5)
    g.outputs.append(g.linear(a, weight("o_proj", FLAT, heads * width)))
    return g


def ffn_module(name, config):
    g, prefix = start(name)
    x, width = g.arguments["x"], config["intermediate_size"]
    if "num_local_experts" not in config:
        parts = {part: g.weight(f"{prefix}mlp.{part}_proj.weight", [FLAT, width] if part == "down" else [width, FLAT], "bf16") for part in ("gate", "up", "down")}
        g.outputs.append(g.ffn(x, "silu", **parts))
        return g
    experts, moe = config["num_local_experts"], f"{prefix}block_sparse_moe."
    logits = g.linear(x, g.weight(f"{moe}gate.weight", [experts, FLAT], "bf16"))
    ids, weights = g.route(logits, config["num_experts_per_tok"], renormalize="sum")
    shapes = {"gate": ("w1", width, FLAT), "up": ("w3", width, FLAT), "down": ("w2", FLAT, width)}
    parts = {part: g.weight(f"{moe}experts.{source}", [experts, rows, columns], "bf16", True, f"{moe}experts.{{}}.{source}.weight")
             for part, (source, rows, columns) in shapes.items()}
    g.outputs.append(g.combine(g.experts(x, ids, "silu", **parts), weights))
    return g


MODULES = {"attention": attention_module, "ffn": ffn_module}


def check(name, part, backend, folder):
    """None, or what is wrong."""
    with open(os.path.join(checkpoint_folder(name), "config.json")) as file:
        graph = MODULES[part](name, json.load(file))
    recorded = np.load(fixture_path(name))
    x, y = recorded[f"{part}.x"], recorded[f"{part}.y"]
    run = BACKENDS[backend](lower(graph.text()), folder)
    states = zero_states(run.arguments, 1, len(x), STORAGE)
    inputs = [*step_inputs([[0] * len(x)]), x]
    got = run(bind(run.arguments, inputs, states, Checkpoint(checkpoint_folder(name)).weight))[0]
    if got.shape != y.shape or not np.isfinite(got).all():
        return f"shape {got.shape}, expected {y.shape}, or not finite"
    delta, bound = np.abs(got - y).max(), 1e-5 * np.abs(y).max()
    print(f"{name} layer {LAYERS[name]} {part}, {backend}: max |d| {delta:.2g} (bound {bound:.2g})")
    return None if delta <= bound else f"{name} {part}: the outputs differ"


def record():
    """Runs the official classes and keeps what goes into and comes out of the two modules."""
    import torch
    from transformers import AutoModelForCausalLM

    os.makedirs(os.path.join(HERE, "fixtures"), exist_ok=True)
    for name, index in LAYERS.items():
        with open(os.path.join(ROOT, "test", "golden", "fixtures", f"bundled-{name}", "ids.json")) as file:
            ids = json.load(file)[0][:TOKENS]
        model = AutoModelForCausalLM.from_pretrained(checkpoint_folder(name), dtype=torch.float32, attn_implementation="eager").eval()
        layer, kept = model.model.layers[index], {}

        def keep(part):
            def hook(module, positional, named, output):
                x = positional[0] if positional else named["hidden_states"]
                y = output[0] if isinstance(output, tuple) else output
                kept[f"{part}.x"], kept[f"{part}.y"] = x.reshape(-1, FLAT).numpy(), y.reshape(-1, FLAT).numpy()
            return hook

        layer.self_attn.register_forward_hook(keep("attention"), with_kwargs=True)
        ffn = next(getattr(layer, part) for part in ("mlp", "block_sparse_moe") if hasattr(layer, part))
        ffn.register_forward_hook(keep("ffn"), with_kwargs=True)
        with torch.no_grad():
            model(torch.tensor([ids]))
        np.savez_compressed(fixture_path(name), **kept)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", nargs="+", default=["native"], choices=list(BACKENDS))
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    if options.record:
        return record()
    problems = []
    for backend in options.backend:
        for name in LAYERS:
            for part in MODULES:
                with tempfile.TemporaryDirectory() as folder:
                    problems.append(check(name, part, backend, folder))
    problems = [problem for problem in problems if problem]
    print("\n".join(problems) or f"{len(options.backend) * len(LAYERS) * len(MODULES)} layers agree with transformers")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
