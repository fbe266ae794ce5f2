"""FFN Fusion against what its forms promise, in f64.

    check_fusion.py [exact|forms|compose|experts|kernels]...     default: all

Every case writes a model twice: layer after layer, for moe-opt to fuse, and in the fused form's own words: branches on
one input, added up. Both go through linalg and must agree to 1e-12 of the largest logit: what a rewrite does beyond
giving branches other inputs is exact but for the order of sums. numpy is the second witness of the latter, to 1e-12, or
to 1e-6 where there is RoPE, whose angles are f32. `kernels` is in f32: the fused module as a package (moec compile,
moe-run logits) against numpy of the module with branches on one input.
"""

import argparse
import json
import os
import sys
import tempfile

import numpy as np

from backends import Native, execute, lower
from check_models import compare, compile_package, expected_logits, kernel_logits, run_steps, sequences, token_by_token
from graph import Graph
from signature import step_inputs
from tensors import encode

VOCAB, HIDDEN, HEAD = 11, 12, 4
TOLERANCE, NUMPY_TOLERANCE_ROPE = 1e-12, 1e-6


class Model:
    """A decoder, one sub-layer after the other. `specs`: one dict per layer."""

    def __init__(self, specs, maps=None, output_map=None, element="f64"):
        """maps: {name of a norm: (map behind it, last norm of those fused with it, or None)}; output_map: of every window's FFNs."""
        self.element = element
        self.g, self.specs, self.made, self.maps, self.output_map = Graph(), specs, set(), maps or {}, output_map
        self.h = self.g.embedding(self.weight("embed", VOCAB, HIDDEN), element=self.element)

    def weight(self, name, *dims):
        return self.g.weight(name, list(dims), self.element)

    def norm(self, x, name):
        if name in self.maps:
            # What the norm in its place gives, times a matrix: of a fused window the last one, kept away from 0.
            map_name, last = self.maps[name]
            scale = self.weight(f"{last or name}.norm", HIDDEN)
            n = self.g.rms_norm(x, self.g.floor_magnitude(scale, 2.0**-10) if last else scale, element=self.element)
            return self.g.linear(n, self.g.weight(map_name, [HIDDEN, HIDDEN], "f32"), element=self.element)
        return self.g.rms_norm(x, self.weight(f"{name}.norm", HIDDEN), element=self.element)

    def attention(self, x, i):
        g, spec, name = self.g, self.specs[i], f"l{i}.attention"
        heads, kv = spec.get("heads", 2), spec.get("kv", 1)
        n = self.norm(x, name)

        def project(x, part, width):
            bias = self.weight(f"{name}.{part}.bias", width) if spec.get("bias") else None
            return g.linear(x, self.weight(f"{name}.{part}", width, x.width), bias, element=self.element)

        q, k, v = (project(n, part, count * HEAD) for part, count in (("q", heads), ("k", kv), ("v", kv)))
        q, k = g.rope(q, heads), g.rope(k, kv)
        if i not in self.made:
            self.made.add(i)
            g.state(f"layers.{i}.kv", kv, HEAD, HEAD, self.element)
        sinks = self.weight(f"{name}.sinks", heads) if spec.get("sinks") else None
        return project(g.attention(q, k, v, f"layers.{i}.kv", heads, kv, 0.5, spec.get("window"), sinks), "o", HIDDEN)

    def ffn(self, x, i):
        g, spec, name = self.g, self.specs[i], f"l{i}.ffn"
        names = (["gate"] if spec.get("gated", True) else []) + ["up", "down"]
        shapes = {part: [HIDDEN, spec["width"]] if part == "down" else [spec["width"], HIDDEN] for part in names}
        n = self.norm(x, name)
        if spec.get("experts"):
            return self.experts(n, i, names, shapes)
        parts = {part: self.weight(f"{name}.{part}", *shapes[part]) for part in names}
        if spec.get("bias"):
            parts.update({f"{part}_bias": self.weight(f"{name}.{part}_bias", shapes[part][0]) for part in names})
        return g.ffn(n, spec.get("activation", "silu"), **parts, element=self.element)

    def experts(self, n, i, names, shapes):
        """`experts` of them in place of the FFN, `k` for each token; `route`: options; `shared`: the width of a dense FFN beside them."""
        g, spec, name, count = self.g, self.specs[i], f"l{i}.experts", self.specs[i]["experts"]
        biased = spec.get("bias")
        logits = g.linear(n, self.weight(f"{name}.router", count, HIDDEN), self.weight(f"{name}.router_bias", count) if biased else None, element=self.element)
        correction = self.weight(f"{name}.correction", count) if spec.get("correction") else None
        ids, weights = g.route(logits, spec["k"], bias=correction, **spec.get("route", {}))
        many = lambda part, *dims: g.weight(f"{name}.{part}", [count, *dims], self.element, stacked=spec.get("stacked", True))
        parts = {part: many(part, *shapes[part]) for part in names}
        if biased:
            parts.update({f"{part}_bias": many(f"{part}_bias", shapes[part][0]) for part in names})
        out = g.combine(g.experts(n, ids, spec.get("activation", "silu"), **parts, element=self.element), weights)
        if not spec.get("shared"):
            return out
        rows = {part: [HIDDEN, spec["shared"]] if part == "down" else [spec["shared"], HIDDEN] for part in names}
        shared = g.ffn(n, spec.get("activation", "silu"), **{part: self.weight(f"{name}.shared.{part}", *rows[part]) for part in names}, element=self.element)
        return g.add(*((shared, out) if spec.get("shared_first") else (out, shared)), element=self.element)

    def add(self, *branches):
        for branch in branches:
            self.h = self.g.add(self.h, branch, element=self.element)

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
                self.add(a, self.ffn(self.g.add(x, a, element=self.element), i))
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
                branch = self.g.linear(branch, self.g.weight(self.output_map, [HIDDEN, HIDDEN], "f32"), element=self.element)
            self.add(branch)

    def finish(self):
        h = self.g.rms_norm(self.g.gather_rows(self.h), self.weight("final.norm", HIDDEN), element=self.element)
        self.g.outputs.append(self.g.linear(h, self.weight("head", VOCAB, HIDDEN), element=self.element))
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


def parallel_ffns(groups, element="f64"):
    """Groups of FFNs on one input, each with a norm of its own; one group after the other."""
    model, first = Model([spec for group in groups for spec in group], element=element), 0
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


def plan_pipeline(folder, layers, windows, name="plan.json", **options):
    path = os.path.join(folder, name)
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


# Routers as the families have them, with all that a route can say.
EXPERTS = [
    {"experts": 6, "k": 2, "width": 5, "route": {"renormalize": "sum"}},
    {"experts": 4, "k": 3, "width": 3, "gated": False, "activation": "gelu", "bias": True, "route": {"score": "identity", "renormalize": "softmax"}},
    {"experts": 8, "k": 3, "width": 4, "correction": True, "shared": 5,
     "route": {"score": "sigmoid", "renormalize": "sum", "epsilon": 1e-20, "scale": 2.5, "groups": 4, "keep": 2, "group_score": "top2sum"}},
    {"experts": 6, "k": 1, "width": 7, "shared": 3, "shared_first": True, "stacked": False, "route": {"scale": 1.5, "groups": 2, "keep": 1}},
]


def experts(folder):
    """MoE layers: on one input without a plan, n = 2 .. 6; every form, with maps, in front of and behind each other."""
    for n, kind in zip((2, 3, 4, 6), EXPERTS):
        graph = parallel_ffns([[kind] * n])
        yield (f"{n} MoE layers", graph.text(), "moe-fuse-ffn", graph,
               {"moe.experts": 1, "moe.combine": 1, "moe.rms_norm": 2, "moe.ffn": 1 if kind.get("shared") else 0})
    two = parallel_ffns([[EXPERTS[0]] * 2, [EXPERTS[2]] * 2])
    yield "MoE layers, folded", two.text(), "moe-fold-norm-scales", two, {"moe.combine": 4, "moe.rms_norm": 3}
    for form, attentions, kinds in (("R", 1, EXPERTS[:2]), ("D", 6, EXPERTS[1:3]), ("P", 3, EXPERTS[2:])):
        specs = [{"heads": 2 + 2 * (i % 3), "kv": 1 + i % 3, **kinds[i >= 2]} for i in range(6)]
        windows = [(0, 2, form), (2, 3, form)]
        pipeline = plan_pipeline(folder, 6, windows)
        yield (f"MoE form {form}", sequential(specs).text(), f"{pipeline},{pipeline}", in_form(specs, windows),
               {"moe.combine": 3, "moe.attention": attentions, "moe.rms_norm": 4 + attentions})
    for kind in (EXPERTS[0], EXPERTS[2]):
        names = {"ffn": ["f0", "f1", None], "attention": ["a0", None, "a2"], "output": "t"}
        behind = {f"l{i}.{part}": (name, f"l2.{part}") for part in ("attention", "ffn") for i, name in enumerate(names[part]) if name}
        yield ("MoE form P with maps", sequential([kind] * 3).text(), plan_pipeline(folder, 3, [(0, 3, "P", names)]),
               in_form([kind] * 3, [(0, 3, "P")], maps=behind, output_map="t"), {"moe.combine": 1})
    # What one plan fused, a second one fuses further; dense layers beside experts keep to themselves.
    specs = [EXPERTS[0]] * 4 + [{"width": 3}] * 2
    yield ("MoE layers fused twice", sequential(specs).text(), plan_pipeline(folder, 6, [(0, 2, "R"), (4, 2, "D")]) + "," +
           plan_pipeline(folder, 6, [(0, 4, "R")], name="second.json"), in_form(specs, [(0, 4, "R"), (4, 2, "D")]), {"moe.combine": 1, "moe.ffn": 1})


def kernels():
    """MoE layers on one input as packages."""
    for i, kind in enumerate(EXPERTS):
        graph = parallel_ffns([[kind] * (2 + i % 2)], element="f32")
        yield f"{kind['experts']} experts", graph.text(), "moe-fuse-ffn", graph, {"moe.experts": 1}


def check_kernels(label, text, pipeline, target, counts, seed):
    """As check, but of a package of the fused module, whose weights are in f32; None, or what is wrong."""
    fused = execute(["moe-opt", f"--pass-pipeline=builtin.module({pipeline})"], input=text.encode()).decode()
    if any(fused.count(f"= {op} ") != want for op, want in counts.items()):
        return f"{label}: was not fused"
    weights = {symbol: values.astype(np.float32).astype(np.float64) for symbol, values in random_weights(target, seed).items()}
    ids = [[token % VOCAB for token in row] for row in sequences([5, 1, 3, 17])]
    with tempfile.TemporaryDirectory() as folder:
        got = kernel_logits(folder, *compile_package(folder, fused, target, weights), ids)
    return compare(label, got, expected_logits(target, weights, step_inputs(ids), len(ids), 17), "f32")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("groups", nargs="*", default=["exact", "forms", "compose", "experts", "kernels"])
    options = parser.parse_args()
    done, failed = 0, 0
    with tempfile.TemporaryDirectory() as folder:
        cases = {"exact": exact, "forms": lambda: forms(folder), "compose": lambda: compose(folder), "experts": lambda: experts(folder), "kernels": kernels}
        for group in options.groups:
            for seed, (label, text, pipeline, target, counts) in enumerate(cases[group]()):
                problem = (check_kernels if group == "kernels" else check)(label, text, pipeline, target, counts, seed)
                done, failed = done + 1, failed + bool(problem)
                if problem:
                    print(problem)
    bound = "1e-5 in f32" if options.groups == ["kernels"] else str(TOLERANCE) + (", packages to 1e-5 in f32" if "kernels" in options.groups else "")
    print(f"{done - failed} rewrites are exact to {bound}, {failed} are not")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
