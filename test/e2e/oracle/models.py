"""Tiny random models as moe modules: single-layer models that cover what llama and mixtral do not.

Every builder returns (Graph, overrides), where overrides replace random weights ({symbol: function of the random
array}). The KEY of a model is its name on the command line. Residual stream f32, activations in `dtype`, as the
importer writes a layer.
"""

import numpy as np

from graph import Graph
from tensors import rounded

VOCAB, HIDDEN = 37, 24  # odd vocabulary; neither is a multiple of a vector


class Layer:
    """One decoder layer under construction, and the head around it."""

    def __init__(self, dtype, storage):
        self.graph, self.dtype, self.storage = Graph(), dtype, storage
        g = self.graph
        self.h = g.embedding(g.weight("embed", [VOCAB, HIDDEN], storage))

    def norm(self, name, **options):
        g = self.graph
        return g.rms_norm(self.h, g.weight(f"{name}.norm", [HIDDEN], self.storage), element=self.dtype, **options)

    def project(self, x, name, width, bias=False, element=None):
        g = self.graph
        weight = g.weight(f"{name}.weight", [width, x.width], self.storage)
        return g.linear(x, weight, g.weight(f"{name}.bias", [width], self.storage) if bias else None, element or self.dtype)

    def attention(self, heads, kv_heads, width, bias=False, qk_norm=None, window=None, sinks=False, value_width=None, rope=None, **norm):
        g, value_width = self.graph, value_width or width
        g.state("kv", kv_heads, width, value_width, self.dtype)
        n = self.norm("attention", **norm)
        q, k = (self.project(n, f"attention.{name}", count * width, bias) for name, count in (("q", heads), ("k", kv_heads)))
        v = self.project(n, "attention.v", kv_heads * value_width, bias)
        if qk_norm:
            # per_head: one weight of the head's width; full_width: one of the whole row.
            groups = {"per_head": (heads, kv_heads), "full_width": (1, 1)}[qk_norm]
            q = g.rms_norm(q, g.weight("attention.q_norm", [q.width // groups[0]], self.storage), groups=groups[0])
            k = g.rms_norm(k, g.weight("attention.k_norm", [k.width // groups[1]], self.storage), groups=groups[1])
        q, k = g.rope(q, heads, **(rope or {})), g.rope(k, kv_heads, **(rope or {}))
        a = g.attention(q, k, v, "kv", heads, kv_heads, width**-0.5, window, g.weight("attention.sinks", [heads], self.storage) if sinks else None)
        self.h = g.add(self.h, self.project(a, "attention.o", HIDDEN, bias, element="f32"))

    def ffn_parts(self, prefix, width, gated, bias, experts=None):
        g, lead = self.graph, [experts] if experts else []
        names = (["gate"] if gated else []) + ["up", "down"]
        shapes = {name: [HIDDEN, width] if name == "down" else [width, HIDDEN] for name in names}
        parts = {name: g.weight(f"{prefix}.{name}", lead + shapes[name], self.storage, stacked=bool(experts)) for name in names}
        if bias:
            parts.update({f"{name}_bias": g.weight(f"{prefix}.{name}_bias", lead + shapes[name][:1], self.storage, stacked=bool(experts)) for name in names})
        return parts

    def ffn(self, activation, width=20, gated=True, bias=False, **options):
        n = self.norm("ffn")
        self.h = self.graph.add(self.h, self.graph.ffn(n, activation, **self.ffn_parts("ffn", width, gated, bias), **options))

    def moe(self, experts, k, activation="silu", width=12, gated=True, bias=False, router_bias=False, correction=False, shared=False, ffn_options=None, **route):
        g = self.graph
        n = self.norm("moe")
        logits = self.project(n, "router", experts, router_bias, element="f32")
        ids, weights = g.route(logits, k, bias=g.weight("correction", [experts], "f32") if correction else None, **route)
        y = g.experts(n, ids, activation, **self.ffn_parts("experts", width, gated, bias, experts), **(ffn_options or {}))
        out = g.combine(y, weights)
        if shared:
            out = g.add(out, g.ffn(n, activation, **self.ffn_parts("shared", width, gated, False)))
        self.h = g.add(self.h, out)

    def finish(self):
        g = self.graph
        self.h = g.gather_rows(self.h)
        g.outputs.append(self.project(self.norm("final"), "head", VOCAB, element="f32"))
        return g


def textbook(dtype, storage):
    """Softmax router, a second softmax over the chosen, plain SiLU experts with biases."""
    layer = Layer(dtype, storage)
    layer.attention(2, 2, 8)
    layer.moe(6, 2, gated=False, bias=True, router_bias=True, renormalize="softmax")
    return layer.finish(), {}


def deepseek(dtype, storage):
    """Sigmoid scores, negative correction biases, groups by top-2 sum, scaled sum, a shared expert, interleaved partial RoPE."""
    layer = Layer(dtype, storage)
    layer.attention(4, 2, 12, value_width=8, rope={"dim": 8, "offset": 4, "interleaved": True})
    layer.moe(8, 3, score="sigmoid", renormalize="sum", epsilon=1e-20, scale=2.5, groups=4, keep=2, group_score="top2sum", correction=True, shared=True)
    return layer.finish(), {"correction": lambda w: w - 1.0}


def deepseek_v2(dtype, storage):
    """Softmax, groups by their maximum, not renormalised, scaled."""
    layer = Layer(dtype, storage)
    layer.attention(2, 1, 8, rope={"interleaved": True})
    layer.moe(9, 2, groups=3, keep=1, group_score="max", scale=16.0)
    return layer.finish(), {}


def gpt_oss(dtype, storage):
    """Sinks, window, biases everywhere, clamped SwiGLU, softmax after top-k, yarn without truncation, one rounding in the norm."""
    layer = Layer(dtype, storage)
    yarn = {"kind": "yarn", "theta": 150000.0, "factor": 32.0, "original_context": 4096, "truncate": False, "attention_factor": 1.3465735902799727}
    layer.attention(4, 2, 8, bias=True, window=3, sinks=True, rope=yarn, rounding="after_weight")
    layer.moe(6, 4, "oss_swiglu", bias=True, router_bias=True, score="identity", renormalize="softmax", ffn_options={"alpha": 1.702, "limit": 1.0})
    return layer.finish(), {}


def qwen3(dtype, storage):
    """Per-head q and k norms, head width that is not H / Q, GQA 3, llama3 RoPE."""
    layer = Layer(dtype, storage)
    llama3 = {"kind": "llama3", "theta": 5e5, "factor": 8.0, "original_context": 8192, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    layer.attention(6, 2, 16, qk_norm="per_head", rope=llama3)
    layer.moe(7, 3, renormalize="sum")
    return layer.finish(), {}


def olmoe(dtype, storage):
    """Norms of whole q and k rows, no renormalisation, linear RoPE."""
    layer = Layer(dtype, storage)
    layer.attention(3, 3, 8, qk_norm="full_width", rope={"kind": "linear", "factor": 4.0})
    layer.moe(6, 4, activation="gelu_tanh")
    return layer.finish(), {}


def plain(activation):
    def build(dtype, storage):
        layer = Layer(dtype, storage)
        layer.attention(8, 1, 8, bias=True, rope={"kind": "longrope", "dim_factors": [1.0, 1.5, 2.0, 4.0]})
        layer.ffn(activation, gated=False, bias=True)
        return layer.finish(), {}
    build.__doc__ = f"Dense FFN without a gate, with biases ({activation}), GQA 8, longrope."
    return build


def joined_weights(dtype, storage):
    """A weight computed from weights (moe.concat)."""
    layer = Layer(dtype, storage)
    g = layer.graph
    parts = [g.weight(f"part{i}", [rows, HIDDEN], storage) for i, rows in enumerate((5, 8, 7))]
    down = g.concat([g.weight("down0", [HIDDEN, 12], storage), g.weight("down1", [HIDDEN, 8], storage)], 1)
    layer.h = g.add(layer.h, g.ffn(layer.norm("ffn"), "relu", g.concat(parts, 0), down))
    return layer.finish(), {}


def computed_weights(dtype, storage):
    """Every computation on weights: into parts of a concatenation, of each other, of odd sizes, one shared by two users."""
    layer = Layer(dtype, storage)
    g = layer.graph
    new = lambda name, *dims: g.weight(name, list(dims), storage)
    kept = g.floor_magnitude(new("scale0", HIDDEN), 0.5)
    folded = g.scale(new("up0", 5, HIDDEN), new("scale1", HIDDEN), 1, over=kept)
    mapped = g.product(g.scale(new("up1", 7, HIDDEN), new("rows1", 7), 0), g.weight("map", [HIDDEN, HIDDEN], "f32"))
    up = g.concat([folded, mapped, g.pad(new("up2", 3, HIDDEN), 0, 6)], 0)
    down = g.concat([g.product(new("out", HIDDEN, HIDDEN), new("down0", HIDDEN, 12)), g.pad(new("down1", HIDDEN, 3), 1, 6)], 1)
    n = g.rms_norm(layer.h, kept, element=dtype)
    bias = g.sum([new(f"bias{i}", HIDDEN) for i in range(3)])
    layer.h = g.add(layer.h, g.ffn(n, "silu", up, down, gate=g.scale(up, new("scale2", HIDDEN), 1), down_bias=bias))
    return layer.finish(), {}


def cut_experts(dtype, storage):
    """Gate and up of all experts in one tensor (gate first), down cut out of one that is wider; up again from stacked tensors."""
    layer = Layer(dtype, storage)
    g = layer.graph
    for prefix, stacked in (("one", False), ("experts", True)):
        n = layer.norm(prefix)
        ids, weights = g.route(layer.project(n, f"{prefix}.router", 5, element="f32"), 2, renormalize="sum")
        both = g.weight(f"{prefix}.both", [5, 14, HIDDEN], storage, stacked=stacked)
        down = g.part(g.weight(f"{prefix}.down", [5, 2 + HIDDEN, 7], storage, stacked=stacked), 1, 2, HIDDEN)
        y = g.experts(n, ids, "silu", g.part(g.part(both, 1, 5, 9), 1, 2, 7), down, gate=g.part(both, 1, 0, 7))
        layer.h = g.add(layer.h, g.combine(y, weights))
    return layer.finish(), {}


def fused_experts(dtype, storage):
    """What a fusion of MoE layers makes: routers side by side, tables of experts joined, scaled, mapped and cut, biases joined."""
    layer = Layer(dtype, storage)
    g, width = layer.graph, 12
    n = layer.norm("moe")
    new = lambda name, *dims: g.weight(name, list(dims), storage)
    many = lambda name, *dims: g.weight(f"experts.{name}", list(dims), storage, stacked=True)
    logits = g.linear(n, g.concat([g.scale(new(f"router{i}", 4, HIDDEN), new(f"scale{i}", HIDDEN), 1) for i in range(2)], 0))
    ids, weights = g.route(logits, 4, renormalize="sum", bias=g.concat([new(f"correction{i}", 4) for i in range(2)], 0), routers=2)
    turn = lambda name: g.weight(name, [HIDDEN, HIDDEN], "f32")
    up = g.concat([g.scale(many("up0", 4, width, HIDDEN), new("scale2", HIDDEN), 2, over=new("scale3", HIDDEN)), many("up1", 4, width, HIDDEN)], 0)
    both = many("both", 4, 2 * width, HIDDEN)
    gate = g.concat([g.product(g.part(both, 1, width, width), turn("map")), g.scale(new("gate1", 4, width, HIDDEN), new("rows", width), 1)], 0)
    down = g.concat([g.product(turn("out"), many(f"down{i}", 4, HIDDEN, width)) for i in range(2)], 0)
    bias = g.concat([many("bias0", 4, width), new("bias1", 4, width)], 0)
    y = g.experts(n, ids, "silu", up, down, gate=gate, up_bias=bias)
    layer.h = g.add(layer.h, g.combine(y, weights))
    return layer.finish(), {f"scale{i}": lambda w: w + 1.0 for i in range(4)}


def choices(experts, k, overrides, **route):
    def build(dtype, storage):
        layer = Layer(dtype, storage)
        layer.attention(2, 1, 8)
        layer.moe(experts, k, router_bias=True, renormalize="sum", **route)
        return layer.finish(), overrides
    return build


def biased(values):
    """A router whose weight is 0 and whose bias is `values`: every token's logits are exactly those."""
    return {"router.weight": lambda w: 0 * w, "router.bias": lambda w: np.array(values, dtype=np.float64)}


MODELS = {
    "textbook": textbook,
    "deepseek": deepseek,
    "deepseek-v2": deepseek_v2,
    "gpt-oss": gpt_oss,
    "qwen3": qwen3,
    "olmoe": olmoe,
    "plain-gelu": plain("gelu"),
    "plain-relu": plain("relu"),
    "joined-weights": joined_weights, "computed-weights": computed_weights,
    "cut-experts": cut_experts, "fused-experts": fused_experts,
    "one-choice": choices(5, 1, {}),
    "every-expert": choices(4, 4, {}),
    "idle-expert": choices(4, 2, {"router.bias": lambda w: np.array([0.0, -1e4, 0.0, 0.0])}),
    "one-busy-expert": choices(5, 1, {"router.bias": lambda w: np.array([0.0, 0.0, 1e4, 0.0, 0.0])}),
    "ties": choices(6, 3, biased([1.0, 2.0, 2.0, 2.0, 2.0, 0.0])),
    "ties-everywhere": choices(5, 2, biased([0.0] * 5)),
}


def build(name, dtype="f32", storage="f32", seed=0):
    """(graph, weights) of a model: weights {symbol: float64 values that `storage` holds exactly}."""
    graph, overrides = MODELS[name](dtype, storage)
    random = np.random.default_rng([seed, *name.encode()])
    weights = {}
    for symbol, (_, dims, element) in graph.weights.items():
        values = random.standard_normal(dims) * (dims[-1] ** -0.5 if len(dims) > 1 else 0.3)
        values = values + 1.0 if "norm" in symbol else values
        weights[symbol] = rounded(overrides.get(symbol, lambda w: w)(values), element)
    return graph, weights


def sequences(lengths, seed=0):
    random = np.random.default_rng([seed, *lengths])
    return [random.integers(0, VOCAB, length).tolist() for length in lengths]
