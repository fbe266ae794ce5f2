"""FFN Fusion against what its forms promise, in f64.

    check_fusion.py [exact|forms|compose]...     default: all

Every case writes a model twice: layer after layer, for moe-opt to fuse, and in the fused form's own words: branches on
one input, added up. Both go through linalg and must agree to 1e-12 of the largest logit: what a rewrite does beyond
giving branches other inputs is exact but for the order of sums. numpy is the second witness of the latter, to 1e-12, or
to 1e-6 where there is RoPE, whose angles are f32.
"""

import argparse
import json
import os
import sys
import tempfile

import numpy as np

from backends import Native, execute, lower
from check_models import expected_logits, run_steps, sequences, token_by_token
from graph import Graph
from signature import step_inputs
from tensors import encode

VOCAB, HIDDEN, HEAD = 11, 12, 4
TOLERANCE, NUMPY_TOLERANCE_ROPE = 1e-12, 1e-6


class Model:
    """A decoder in f64, one sub-layer after the other. `specs`: one dict per layer."""

    def __init__(self, specs, maps=None, output_map=None):
        """maps: {name of a norm: (map behind it, last norm of those fused with it, or None)}; output_map: of every window's FFNs."""
        self.g, self.specs, self.made, self.maps, self.output_map = Graph(), specs, set(), maps or {}, output_map
        self.h = self.g.embedding(self.weight("embed", VOCAB, HIDDEN), element="f64")

    def weight(self, name, *dims):
        return self.g.weight(name, list(dims), "f64")

    def norm(self, x, name):
        if name in self.maps:
            # What the norm in its place gives, times a matrix: of a fused window the last one, kept away from 0.
            map_name, last = self.maps[name]
            scale = self.weight(f"{last or name}.norm", HIDDEN)
            n = self.g.rms_norm(x, self.g.floor_magnitude(scale, 2.0**-10) if last else scale, element="f64")
            return self.g.linear(n, self.g.weight(map_name, [HIDDEN, HIDDEN], "f32"), element="f64")
        return self.g.rms_norm(x, self.weight(f"{name}.norm", HIDDEN), element="f64")

    def attention(self, x, i):
        g, spec, name = self.g, self.specs[i], f"l{i}.attention"
        heads, kv = spec.get("heads", 2), spec.get("kv", 1)
        n = self.norm(x, name)

        def project(x, part, width):
            bias = self.weight(f"{name}.{part}.bias", width) if spec.get("bias") else None
            return g.linear(x, self.weight(f"{name}.{part}", width, x.width), bias, element="f64")

        q, k, v = (project(n, part, count * HEAD) for part, count in (("q", heads), ("k", kv), ("v", kv)))
        q, k = g.rope(q, heads), g.rope(k, kv)
        if i not in self.made:
            self.made.add(i)
            g.state(f"layers.{i}.kv", kv, HEAD, HEAD, "f64")
        sinks = self.weight(f"{name}.sinks", heads) if spec.get("sinks") else None
        return project(g.attention(q, k, v, f"layers.{i}.kv", heads, kv, 0.5, spec.get("window"), sinks), "o", HIDDEN)

    def ffn(self, x, i):
        g, spec, name = self.g, self.specs[i], f"l{i}.ffn"
        names = (["gate"] if spec.get("gated", True) else []) + ["up", "down"]
        shapes = {part: [HIDDEN, spec["width"]] if part == "down" else [spec["width"], HIDDEN] for part in names}
        parts = {part: self.weight(f"{name}.{part}", *shapes[part]) for part in names}
        if spec.get("bias"):
            parts.update({f"{part}_bias": self.weight(f"{name}.{part}_bias", shapes[part][0]) for part in names})
        return g.ffn(self.norm(x, name), spec.get("activation", "silu"), **parts, element="f64")

    def add(self, *branches):
        for branch in branches:
            self.h = self.g.add(self.h, branch, element="f64")

    def layer(self, i):
        if self.specs[i].get("attention", True):
            self.add(self.attention(self.h, i))
        if self.specs[i].get("width"):
            self.add(self.ffn(self.h, i))

    def window(self, first, length, form):
        """Layers first .. as the definition of the form says."""
        layers = range(first, first + length)
        attentions = [i for i in layers if self.specs[i].get("attention", True)]
        if form == "B":
            x = self.h
            for i in layers:
                a = self.attention(x, i)
                self.add(a, self.ffn(self.g.add(x, a, element="f64"), i))
            return
        if form == "D":
            for i in attentions:
                self.add(self.attention(self.h, i))
        if form == "P":
            x = self.h
            self.add(*[self.attention(x, i) for i in attentions])
        x = self.h
        for branch in [self.ffn(x, i) for i in layers if self.specs[i].get("width")]:
            if self.output_map:
                branch = self.g.linear(branch, self.g.weight(self.output_map, [HIDDEN, HIDDEN], "f32"), element="f64")
            self.add(branch)

    def finish(self):
        h = self.g.rms_norm(self.g.gather_rows(self.h), self.weight("final.norm", HIDDEN), element="f64")
        self.g.outputs.append(self.g.linear(h, self.weight("head", VOCAB, HIDDEN), element="f64"))
        return self.g


def sequential(specs):
    model = Model(specs)
    for i in range(len(specs)):
        model.layer(i)
    return model.finish()


def in_form(specs, windows, **maps):
    model, starts, i = Model(specs, **maps), {window[0]: window for window in windows}, 0
    while i < len(specs):
        if i in starts:
            model.window(*starts[i])
            i += starts[i][1]
        else:
            model.layer(i)
            i += 1
    return model.finish()


def random_weights(graph, seed):
    """Norm scales spread as trained ones do, some of them 0, tiny or negative; biases and matrices of moderate size."""
    rng, weights = np.random.default_rng(seed), {}
    for symbol, (_, dims, _) in sorted(graph.weights.items()):
        if symbol.endswith(".norm"):
            weights[symbol] = np.exp(rng.normal(0, 0.5, dims))
            weights[symbol][:3] = [0.0, 1e-6, -0.7]
        else:
            weights[symbol] = rng.normal(0, 0.5, dims).astype(np.float32).astype(np.float64)  # maps are f32
    return weights


def value_of(text, graph, weights, folder):
    """Logits of a ragged batch, at once and token by token, through linalg."""
    run, ids = Native(lower(text), folder), [[token % VOCAB for token in row] for row in sequences([5, 1, 3])]
    stored = {source: (element, encode(weights[symbol], element)) for symbol, (source, _, element) in graph.weights.items()}
    weight = lambda source, shape: stored[source]
    inputs = step_inputs(ids)
    (once,) = run_steps(run, run.arguments, [inputs], len(ids), 5, weight)
    steps = list(token_by_token(ids))
    parts = run_steps(run, run.arguments, steps, len(ids), 5, weight)
    by_place = {(s, p): row for step, part in zip(steps, parts) for s, p, row in zip(step[1], step[2], part)}
    return inputs, len(ids), once, np.array([by_place[place] for place in zip(inputs[1], inputs[2])])


def check(label, text, pipeline, target, counts, seed):
    """Fuses `text`, counts ops of the result, compares its value with that of the graph `target`; None, or what is wrong."""
    fused = execute(["moe-opt", f"--pass-pipeline=builtin.module({pipeline})"], input=text.encode()).decode()
    for op, want in counts.items():
        got = fused.count(f"= {op} ")
        if got != want:
            return f"{label}: {got} times {op}, expected {want}"
    weights = random_weights(target, seed)
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as other:
        inputs, batch, once, stepwise = value_of(fused, target, weights, folder)
        want = value_of(target.text(), target, weights, other)[2] if target.states else once
    spelled = expected_logits(target, weights, inputs, batch, 5)
    bound = NUMPY_TOLERANCE_ROPE if target.states else TOLERANCE
    for way, got, want, bound in (("at once", once, want, TOLERANCE), ("token by token", stepwise, want, TOLERANCE), ("numpy", once, spelled, bound)):
        delta = np.abs(got - want).max() / np.abs(want).max()
        if not delta <= bound:
            return f"{label} {way}: relative difference {delta:.3g} exceeds {bound}"
    return None


def parallel_ffns(groups):
    """Groups of FFNs on one input, each with a norm of its own; one group after the other."""
    model, first = Model([spec for group in groups for spec in group]), 0
    for group in groups:
        model.window(first, len(group), "R")
        first += len(group)
    return model.finish()


KINDS = [{"gated": True}, {"gated": False, "activation": "gelu"}, {"gated": True, "bias": True},
         {"gated": False, "bias": True, "activation": "relu"}, {"gated": True, "activation": "gelu_tanh"}]


def exact():
    """Theorem 3.1 for n = 2 .. 15: one FFN in place of n, unequal widths, with and without padding; and folding alone."""
    groups = [[{"width": 1 + (5 * i + n) % 9, **KINDS[n % len(KINDS)]} for i in range(n)] for n in range(2, 16)]
    graph, few = parallel_ffns(groups), parallel_ffns(groups[:3])
    yield "n = 2 .. 15", graph.text(), "moe-fuse-ffn", graph, {"moe.ffn": 14, "moe.rms_norm": 15}
    yield "n = 2 .. 4, padded", few.text(), "moe-fuse-ffn{pad-width-to=8}", few, {"moe.ffn": 3, "moe.rms_norm": 4}
    yield "n = 2 .. 4, folded", few.text(), "moe-fold-norm-scales", few, {"moe.ffn": 9, "moe.rms_norm": 4}


def plan_pipeline(folder, layers, windows, **options):
    path = os.path.join(folder, "plan.json")
    with open(path, "w") as file:
        json.dump({"format": "moe-fusion-plan", "version": 1, "layers": layers, **options,
                   "windows": [dict(zip(("first", "length", "form", "maps"), window)) for window in windows]}, file)
    return f"moe-fuse-ffn{{plan={path}}}"


def forms(folder):
    """Every form on windows of two and three of six layers that differ in widths and head counts."""
    for form, attentions, kinds in (("R", 1, KINDS[:2]), ("D", 6, KINDS[1:3]), ("P", 3, KINDS[2:4])):
        specs = [{"width": 3 + 2 * i, "heads": 2 + 2 * (i % 3), "kv": 1 + i % 3, "sinks": True, **kinds[i >= 2]} for i in range(6)]
        windows = [(0, 2, form), (2, 3, form)]
        yield (f"form {form}", sequential(specs).text(), plan_pipeline(folder, 6, windows), in_form(specs, windows),
               {"moe.ffn": 3, "moe.attention": attentions, "moe.rms_norm": 4 + attentions})
    # Maps of inputs, of some layers only, and of the sum.
    specs = [{"width": 3 + i} for i in range(3)]
    for form, attention in (("R", None), ("D", [None, "a1", "a2"]), ("P", ["a0", None, "a2"])):
        names = {"ffn": ["f0", "f1", None], "output": "t", **({"attention": attention} if attention else {})}
        behind = {f"l{i}.ffn": (name, "l2.ffn") for i, name in enumerate(names["ffn"]) if name}
        for i, name in enumerate(attention or []):
            if name:
                behind[f"l{i}.attention"] = (name, "l2.attention" if form == "P" else None)
        yield (f"form {form} with maps", sequential(specs).text(), plan_pipeline(folder, 3, [(0, 3, form, names)]),
               in_form(specs, [(0, 3, form)], maps=behind, output_map="t"), {"moe.ffn": 1})
    # Layers that lack one of the two; several forms in one plan; twice is once.
    specs = [{"width": 4}, {"width": 0}, {"width": 6, "attention": False}, {"width": 3}, {"width": 5}, {"width": 2, "window": 2}]
    for windows in ([(0, 3, "D"), (3, 2, "P")], [(0, 2, "P"), (2, 3, "R")], [(1, 4, "D")], [(0, 4, "P")]):
        pipeline = plan_pipeline(folder, 6, windows)
        yield f"holes {windows}", annotated(specs), f"{pipeline},{pipeline}", in_form(specs, windows), {}


def annotated(specs):
    """A model with an attention that has no FFN behind it says so, as the importer does."""
    lines, layers, out = sequential(specs).text().splitlines(), [], []
    for i, spec in enumerate(specs):
        parts = [part for part, there in (("attention", spec.get("attention", True)), ("ffn", spec.get("width"))) if there]
        layers += [(i, part, part == parts[-1]) for part in parts]
    for line in lines:
        if "= moe.add " in line:
            i, _, last = layers.pop(0)
            line = line.replace(" : ", f" {{moe.layers = array<i64: {i}, {i}>}} : ", 1) if last else line
        out.append(line)
    return "\n".join(out) + "\n"


def compose(folder):
    """Passes one after the other: parallel blocks, folded; attention removed, then fused."""
    specs = [{"width": 3 + i, **KINDS[2]} for i in range(5)]
    target = in_form(specs, [(1, 3, "B")])
    yield "parallel blocks", sequential(specs).text(), "moe-parallelize-blocks{windows=1:3}", target, {"moe.rms_norm": 11}
    yield ("parallel blocks, folded", sequential(specs).text(), "moe-parallelize-blocks{windows=1:3},moe-fold-norm-scales,"
           "moe-parallelize-blocks{windows=1:3}", target, {"moe.rms_norm": 9})
    bare = [dict(spec, attention=i not in (1, 2)) for i, spec in enumerate(specs)]
    yield ("attention removed", sequential(specs).text(), "moe-remove-attention{layers=1,2}", sequential(bare), {"moe.attention": 3})
    yield ("attention removed, fused", sequential(specs).text(), "moe-remove-attention{layers=1,2}," + plan_pipeline(folder, 5, [(1, 3, "D")]),
           in_form(bare, [(1, 3, "D")]), {"moe.attention": 3, "moe.ffn": 3})
    yield ("removed and fused by one plan", sequential(specs).text(), plan_pipeline(folder, 5, [(1, 2, "R")], remove_attention=[3]),
           in_form([dict(spec, attention=i != 3) for i, spec in enumerate(specs)], [(1, 2, "R")]), {"moe.attention": 2, "moe.ffn": 4})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("groups", nargs="*", default=["exact", "forms", "compose"])
    options = parser.parse_args()
    done, failed = 0, 0
    with tempfile.TemporaryDirectory() as folder:
        cases = {"exact": exact, "forms": lambda: forms(folder), "compose": lambda: compose(folder)}
        for group in options.groups:
            for seed, (label, text, pipeline, target, counts) in enumerate(cases[group]()):
                problem = check(label, text, pipeline, target, counts, seed)
                done, failed = done + 1, failed + bool(problem)
                if problem:
                    print(problem)
    print(f"{done - failed} rewrites are exact to {TOLERANCE}, {failed} are not")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
