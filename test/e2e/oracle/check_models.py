"""Generated models: the linalg path against numpy, and the kernel path against the same.

    check_models.py [NAME...] [--dtype f32|bf16] [--storage f32|bf16|f16] [--backend native|iree] [--kernels]
                    [--target TARGET] [--ranks N] [--parallel expert|tensor] [--exchange gather|exact]
                    [--work DIR]

Every model runs over step shapes: no token, one, a prime number, ragged sequences, many; the whole in one step and
token by token (the cache carries over). Bounds: f32 max |d| <= max(2e-5, 1e-5 max |logit|), since both sum in another order
than numpy's float64; bf16 max |d| <= 6 % of max |logit|, since a value may round the other way at every op, and a
mean of 1 %. --kernels also runs `moec compile` and `moe-run logits` on the same module and weights; for a target
cuda:... on the emulator, whose findings are failures, where it also decodes ragged sequences token by token.
"""

import argparse
import json
import os
import sys
import tempfile

import numpy as np

from backends import BACKENDS, execute, lower
from models import MODELS, build, sequences
from signature import bind, step_inputs, zero_states
from tensors import STORAGE, decode, encode, write_safetensors

SHAPES = {"none": [0], "one": [1], "prime": [7], "ragged": [3, 0, 5], "many": [61, 2]}


def run_steps(run, arguments, steps, sequences_count, context, weight):
    """Logits of consecutive steps over one set of caches: [(inputs)] -> [arrays]."""
    states = zero_states(arguments, sequences_count, context, STORAGE)
    logits = []
    for inputs in steps:
        results = run(bind(arguments, inputs, states, weight))
        logits.append(results[0])
        # A backend that reads raw files gives the caches flat.
        states = {name: np.reshape(value, states[name].shape) for name, value in zip(states, results[1:], strict=True)}
    return logits


def token_by_token(ids):
    """One step per position, with the sequences that still have a token there."""
    for position in range(max(map(len, ids), default=0)):
        present = [row[position:position + 1] for row in ids]
        yield step_inputs(present, start=[position] * len(ids))


def expected_logits(graph, weights, inputs, sequences_count, context):
    names = ("tokens", "seq", "pos", "runs", "rows")
    return graph.evaluate(dict(zip(names, inputs)), weights, graph.zero_states(sequences_count, context))[0]


def compare(label, got, want, dtype):
    """None, or what is wrong."""
    if got.shape != want.shape:
        return f"{label}: shape {got.shape}, expected {want.shape}"
    if got.size == 0:
        return None
    if not np.isfinite(got).all():
        return f"{label}: {np.count_nonzero(~np.isfinite(got))} logits are not finite"
    delta, scale = np.abs(got - want), np.abs(want).max()
    bound = max(2e-5, 1e-5 * scale) if dtype == "f32" else 0.06 * scale
    if delta.max() > bound:
        return f"{label}: max |d| {delta.max():.3g} exceeds {bound:.3g}"
    if dtype == "bf16" and delta.mean() > 0.01 * scale:
        return f"{label}: mean |d| {delta.mean():.3g} exceeds {0.01 * scale:.3g}"
    return None


def compile_package(folder, text, graph, weights, flags=()):
    """`moec compile` on the module, with the weights in a checkpoint beside it: (package, checkpoint)."""
    checkpoint, package = os.path.join(folder, "checkpoint"), os.path.join(folder, "package")
    os.makedirs(checkpoint, exist_ok=True)
    write_safetensors(os.path.join(checkpoint, "model.safetensors"), graph.checkpoint_tensors(weights))
    model = os.path.join(folder, "model.mlir")
    with open(model, "w") as file:
        file.write(text)
    execute(["moec", "compile", model, "-o", package, "--weights", checkpoint, "--max-tokens", "64", *flags])
    return package, checkpoint


def compile_flags(options):
    """What `moec compile` is to be told."""
    flags = ["--target", options.target]
    flags += ["--ranks", str(options.ranks), "--parallel", options.parallel] if options.ranks > 1 else []
    flags += ["--exchange", options.exchange] if options.exchange else []
    return flags + (["--ptxas", "none"] if options.target.startswith("cuda:") else [])


def kernel_logits(folder, package, checkpoint, ids, flags=(), ranks=1):
    """`moe-run logits` of every token."""
    ids_file, out = os.path.join(folder, "ids.json"), os.path.join(folder, "logits.npy")
    with open(ids_file, "w") as file:
        json.dump(ids, file)
    environment = {"MOE_EMU_DEVICE": f"h100:{ranks}", **os.environ, "MOE_EMU_FINDING_EXIT": "9"}
    execute(["moe-run", "logits", package, "--ids-file", ids_file, "-o", out, "--weights", checkpoint, *flags], env=environment)
    return np.load(out).astype(np.float64)


def check(name, options, folder):
    """The failures of one model."""
    graph, weights = build(name, options.dtype, options.storage)
    text = graph.text()
    run = BACKENDS[options.backend](lower(text), folder)
    weight = graph.stored_weight(weights)
    exact = {symbol: decode(encode(values, graph.weights[symbol][2]), graph.weights[symbol][2]) for symbol, values in weights.items()}
    package = compile_package(folder, text, graph, weights, compile_flags(options)) if options.kernels else None
    on_gpu = ["--device", "emulator"] if options.target.startswith("cuda:") else []
    failures = []
    for shape, lengths in SHAPES.items():
        ids = sequences(lengths)
        count, context = len(ids), max(1, *lengths)
        inputs = step_inputs(ids)
        want = expected_logits(graph, exact, inputs, count, context)
        (got,) = run_steps(run, run.arguments, [inputs], count, context, weight)
        failures.append(compare(f"{name} {shape}", got.astype(np.float64), want, options.dtype))
        if shape == "ragged":
            steps = list(token_by_token(ids))
            parts = run_steps(run, run.arguments, steps, count, context, weight)
            by_place = {(s, p): row for step, part in zip(steps, parts) for s, p, row in zip(step[1], step[2], part)}
            rows = np.array([by_place[place] for place in zip(inputs[1], inputs[2])], dtype=np.float64)
            failures.append(compare(f"{name} token by token", rows, want, options.dtype))
            few = step_inputs(ids, rows=[len(inputs[0]) - 1, 0])
            (some,) = run_steps(run, run.arguments, [few], count, context, weight)
            failures.append(compare(f"{name} two rows", some.astype(np.float64), want[[-1, 0]], options.dtype))
            none = step_inputs(ids, rows=[])
            (empty,) = run_steps(run, run.arguments, [none], count, context, weight)
            failures.append(compare(f"{name} no row", empty.astype(np.float64), want[:0], options.dtype))
        if package and sum(lengths):
            rows = [row for row in ids if row]
            for how in [[], ["--interleave", "1"]] if on_gpu and shape == "ragged" else [[]]:
                got = kernel_logits(folder, *package, rows, on_gpu + how, options.ranks)
                failures.append(compare(f"{name} {shape} kernels {' '.join(how)}".rstrip(), got, want, options.dtype))
    return [failure for failure in failures if failure]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="models (default: all): " + ", ".join(MODELS))
    parser.add_argument("--dtype", default="f32", choices=["f32", "bf16"])
    parser.add_argument("--storage", default="f32", choices=["f32", "bf16", "f16"])
    parser.add_argument("--backend", default="native", choices=list(BACKENDS))
    parser.add_argument("--kernels", action="store_true", help="also compare moec compile + moe-run logits")
    parser.add_argument("--target", default="cpu", help="of the kernel path")
    parser.add_argument("--ranks", type=int, default=1, help="of the kernel path")
    parser.add_argument("--parallel", default="expert", choices=["expert", "tensor"])
    parser.add_argument("--exchange", choices=["gather", "exact"])
    parser.add_argument("--work", help="keep the files of every model under this folder")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in MODELS]
    if unknown:
        parser.error(f"no model {', '.join(unknown)}; there are {', '.join(MODELS)}")
    failed = 0
    for name in options.names or MODELS:
        with tempfile.TemporaryDirectory() as temporary:
            folder = os.path.join(options.work, name) if options.work else temporary
            os.makedirs(folder, exist_ok=True)
            failures = check(name, options, folder)
        failed += bool(failures)
        print(f"{name}: {'; '.join(failures) if failures else 'ok'}")
    print(f"{len(options.names or MODELS) - failed} models agree, {failed} do not ({options.backend}, {options.dtype}, weights {options.storage})")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
