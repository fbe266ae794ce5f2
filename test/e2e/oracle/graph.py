"""moe modules written from Python, each op with its meaning in numpy.

A Graph collects ops of one `@step`; text() is the module, evaluate() the values the .td files promise, computed in
float64 and rounded where the op rounds. The two say the same thing twice: nothing here is shared with a lowering.
"""

import math

import numpy as np

from tensors import encode, rounded

INPUTS = ("tokens", "seq", "pos", "runs", "rows")


class Value:
    def __init__(self, name, dims, element):
        self.name, self.dims, self.element = name, list(dims), element  # a dim of None is T (or M)

    @property
    def type(self):
        return "tensor<" + "".join(f"{'?' if dim is None else dim}x" for dim in self.dims) + self.element + ">"

    @property
    def width(self):
        return self.dims[-1]


class Graph:
    """`inputs` are further arguments of @step, after the five of every step: {name: (dims, element)}."""

    def __init__(self, inputs=None):
        self.arguments = {name: Value(f"%{name}", [None], "i32") for name in INPUTS}
        for name, (dims, element) in (inputs or {}).items():
            self.arguments[name] = Value(f"%{name}", dims, element)
        self.declarations, self.lines, self.nodes, self.outputs = [], [], [], []
        self.weights = {}  # symbol -> (source, dims, element)
        self.states = {}  # symbol -> (heads, key dim, value dim, element)

    def __getattr__(self, name):
        if name in INPUTS:
            return self.arguments[name]
        raise AttributeError(name)

    # Declarations.

    def weight(self, symbol, dims, element="f32", stacked=False, source=None):
        source = source or (symbol.replace("experts", "experts.{}") if stacked else symbol)
        if symbol not in self.weights:
            self.weights[symbol] = (source, list(dims), element)
            options = f' source "{source}" stacked' if stacked else ""
            self.declarations.append(f"moe.weight @{symbol}{options} : {Value('', dims, element).type}")
        return self.emit(f"moe.get_weight @{symbol} : {Value('', dims, element).type}", [], (dims, element),
                         lambda env: env["weights"][symbol])

    def state(self, symbol, heads, key_dim, value_dim, element):
        self.states[symbol] = (heads, key_dim, value_dim, element)
        self.declarations.append(f"moe.state @{symbol} : !moe.kv_cache<heads = {heads}, key_dim = {key_dim}, "
                                 f"value_dim = {value_dim}, element = {element}>")

    # Ops: text and meaning.

    def emit(self, text, operands, *results):
        """`text` with one result per (dims, element) but the last of `results`, the function of env and operands."""
        *types, compute = results
        values = [Value(f"%v{len(self.nodes)}_{i}" if len(types) > 1 else f"%v{len(self.nodes)}", *kind) for i, kind in enumerate(types)]
        self.lines.append(", ".join(value.name for value in values) + " = " + text)
        self.nodes.append((values, operands, compute))
        return values[0] if len(values) == 1 else values

    def embedding(self, table, element="f32"):
        return self.emit(f"moe.embedding %tokens, {table.name} : tensor<?xi32>, {table.type} -> {Value('', [None, table.width], element).type}",
                         [table], ([None, table.width], element), lambda env, table: table[env["tokens"]])

    def gather_rows(self, x):
        return self.emit(f"moe.gather_rows {x.name}, %rows : {x.type}, tensor<?xi32> -> {x.type}", [x], (x.dims, x.element),
                         lambda env, x: x[env["rows"]])

    def add(self, lhs, rhs, element="f32"):
        result = Value("", lhs.dims, element)
        return self.emit(f"moe.add {lhs.name}, {rhs.name} : {lhs.type}, {rhs.type} -> {result.type}", [lhs, rhs],
                         (result.dims, element), lambda env, lhs, rhs: lhs + rhs)

    def linear(self, x, weight, bias=None, element="f32"):
        result = Value("", [None, weight.dims[0]], element)
        biased, bias_type = (f" bias {bias.name}", f", {bias.type}") if bias else ("", "")
        return self.emit(f"moe.linear {x.name}, {weight.name}{biased} : {x.type}, {weight.type}{bias_type} -> {result.type}",
                         [x, weight] + ([bias] if bias else []), (result.dims, element),
                         lambda env, x, w, b=0: x @ w.T + b)

    def rms_norm(self, x, weight, eps=1e-5, groups=1, rounding="before_weight", element=None):
        element = element or x.element
        result = Value("", x.dims, element)

        def compute(env, x, w):
            parts = heads_of(x, groups)
            normed = parts / np.sqrt((parts**2).mean(-1, keepdims=True) + eps)
            if rounding == "before_weight":
                normed = rounded(normed, element)
            return (normed * w).reshape(x.shape)

        options = (f" groups {groups}" if groups != 1 else "") + (f" rounding {rounding}" if rounding != "before_weight" else "")
        return self.emit(f"moe.rms_norm {x.name}, {weight.name} eps {eps:e}{options} : {x.type}, {weight.type} -> {result.type}",
                         [x, weight], (x.dims, element), compute)

    def rope(self, x, heads, **rope):
        rope = {"kind": "default", "theta": 1e4, "dim": x.width // heads, **rope}
        text = ", ".join(f"{key} = {rope_text(value)}" for key, value in rope.items())
        return self.emit(f"moe.rope {x.name} at %pos heads {heads} <{text}> : {x.type}, tensor<?xi32> -> {x.type}", [x],
                         (x.dims, x.element), lambda env, x: rotate(heads_of(x, heads), env["pos"], rope).reshape(x.shape))

    def attention(self, q, k, v, cache, heads, kv_heads, scale, window=None, sinks=None):
        _, _, value_dim, element = self.states[cache]
        result = Value("", [None, heads * value_dim], q.element)
        sinked, sink_type = (f" sinks {sinks.name}", f", {sinks.type}") if sinks else ("", "")
        limited = f" window {window}" if window else ""
        ids = "tensor<?xi32>, tensor<?xi32>, tensor<?xi32>"
        text = (f"moe.attention {q.name}, {k.name}, {v.name} at %seq, %pos, %runs{sinked} cache @{cache} heads {heads} kv_heads {kv_heads} "
                f"scale {scale!r}{limited} : {q.type}, {k.type}, {v.type}, {ids}{sink_type} -> {result.type}")

        def compute(env, q, k, v, sinks=None):
            keys, values = env["states"][f"{cache}.keys"], env["states"][f"{cache}.values"]
            seq, pos = env["seq"], env["pos"]
            keys[seq, pos] = rounded(heads_of(k, kv_heads), element)
            values[seq, pos] = rounded(heads_of(v, kv_heads), element)
            out = np.zeros((len(q), heads, value_dim))
            for t, query in enumerate(heads_of(q, heads)):
                low = max(0, pos[t] + 1 - window) if window else 0
                for h in range(heads):
                    g = h // (heads // kv_heads)
                    scores = scale * keys[seq[t], low:pos[t] + 1, g] @ query[h]
                    if sinks is not None:
                        scores = np.append(scores, sinks[h])
                    weights = softmax(scores)
                    out[t, h] = weights[:pos[t] + 1 - low] @ values[seq[t], low:pos[t] + 1, g]
            return out.reshape(len(q), heads * value_dim)

        return self.emit(text, [q, k, v] + ([sinks] if sinks else []), (result.dims, result.element), compute)

    def ffn(self, x, activation, up, down, gate=None, gate_bias=None, up_bias=None, down_bias=None, element="f32", **options):
        parts = named(gate=gate, up=up, down=down, gate_bias=gate_bias, up_bias=up_bias, down_bias=down_bias)
        result = Value("", [None, down.dims[0]], element)
        text = f"moe.ffn {x.name} {operand_text(parts)} activation {activation}{options_text(options)} : {x.type}, {type_text(parts)} -> {result.type}"
        return self.emit(text, [x, *parts.values()], (result.dims, element),
                         lambda env, values, *weights: network(values, dict(zip(parts, weights)), activation, x.element, **options))

    def experts(self, x, ids, activation, up, down, gate=None, gate_bias=None, up_bias=None, down_bias=None, element="f32", **options):
        parts = named(gate=gate, up=up, down=down, gate_bias=gate_bias, up_bias=up_bias, down_bias=down_bias)
        result = Value("", [None, ids.width, down.dims[1]], element)
        text = f"moe.experts {x.name}, {ids.name} {operand_text(parts)} activation {activation}{options_text(options)} : {x.type}, {ids.type}, {type_text(parts)} -> {result.type}"

        def compute(env, values, ids, *weights):
            out = np.zeros((len(values), result.dims[1], result.dims[2]))
            for t, k in np.argwhere(ids >= 0):
                own = {name: weight[ids[t, k]] for name, weight in zip(parts, weights)}
                out[t, k] = network(values[t], own, activation, x.element, **options)
            return out

        return self.emit(text, [x, ids, *parts.values()], (result.dims, element), compute)

    def combine(self, y, weights):
        result = Value("", [None, y.width], y.element)
        return self.emit(f"moe.combine {y.name}, {weights.name} : {y.type}, {weights.type} -> {result.type}", [y, weights],
                         (result.dims, y.element), lambda env, y, w: np.einsum("tk,tkh->th", w, y))

    def route(self, logits, k, score="softmax", renormalize="none", bias=None, epsilon=0.0, scale=1.0, groups=1, keep=1, group_score="max", routers=1):
        biased, bias_type = (f" bias {bias.name}", f", {bias.type}") if bias else ("", "")
        options = f" renormalize {renormalize}" if renormalize != "none" else ""
        options += f" epsilon {epsilon:e}" if epsilon else ""
        options += f" scale {scale:e}" if scale != 1.0 else ""
        options += f" groups {groups} keep {keep} by {group_score}" if groups > 1 else ""
        options += f" routers {routers}" if routers > 1 else ""
        ids, weights = Value("", [None, k], "i32"), Value("", [None, k], logits.element)
        text = f"moe.route {logits.name}{biased} top {k} score {score}{options} : {logits.type}{bias_type} -> {ids.type}, {weights.type}"
        return self.emit(text, [logits] + ([bias] if bias else []), (ids.dims, "i32"), (weights.dims, weights.element),
                         lambda env, x, b=0: route(x, b, k, score, renormalize, epsilon, scale, groups, keep, group_score, routers))

    def part(self, weight, dim, start, length):
        dims = [length if d == dim else size for d, size in enumerate(weight.dims)]
        result = Value("", dims, weight.element)
        index = tuple(slice(start, start + length) if d == dim else slice(None) for d in range(len(dims)))
        return self.emit(f"moe.part {weight.name} dim {dim} from {start} : {weight.type} -> {result.type}", [weight],
                         (dims, result.element), lambda env, w: w[index])

    def concat(self, inputs, dim):
        dims = list(inputs[0].dims)
        dims[dim] = sum(value.dims[dim] for value in inputs)
        result = Value("", dims, inputs[0].element)
        text = f"moe.concat {', '.join(v.name for v in inputs)} dim {dim} : {', '.join(v.type for v in inputs)} -> {result.type}"
        return self.emit(text, list(inputs), (dims, result.element), lambda env, *parts: np.concatenate(parts, dim))

    def weight_op(self, name, operands, tail, dims, element, compute):
        result = Value("", dims, element)
        return self.emit(f"moe.{name} {tail} : {', '.join(v.type for v in operands)} -> {result.type}", list(operands),
                         (list(dims), element), compute)

    def scale(self, weight, by, dim, over=None, element=None):
        shape = [-1 if d == dim else 1 for d in range(len(weight.dims))]
        compute = lambda env, w, by, over=1.0: w * (by / over).reshape(shape)
        tail = f"{weight.name} by {by.name}" + (f" over {over.name}" if over else "") + f" dim {dim}"
        return self.weight_op("scale", [weight, by] + ([over] if over else []), tail, weight.dims, element or weight.element, compute)

    def floor_magnitude(self, weight, floor):
        return self.weight_op("floor_magnitude", [weight], f"{weight.name} at {floor!r}", weight.dims, weight.element,
                              lambda env, w: np.where(np.abs(w) < floor, floor, w))

    def product(self, lhs, rhs, element=None):
        dims = [*lhs.dims[:-2], *rhs.dims[:-2], lhs.dims[-2], rhs.dims[-1]]
        return self.weight_op("product", [lhs, rhs], f"{lhs.name}, {rhs.name}", dims, element or lhs.element,
                              lambda env, a, b: a @ b)

    def sum(self, inputs, element=None):
        return self.weight_op("sum", inputs, ", ".join(v.name for v in inputs), inputs[0].dims, element or inputs[0].element,
                              lambda env, *parts: np.sum(parts, axis=0))

    def pad(self, weight, dim, length):
        dims = list(weight.dims)
        dims[dim] = length
        widths = [(0, length - size if d == dim else 0) for d, size in enumerate(weight.dims)]
        return self.weight_op("pad", [weight], f"{weight.name} dim {dim}", dims, weight.element, lambda env, w: np.pad(w, widths))

    # The module, and its value.

    def text(self):
        arguments = ", ".join(f"{value.name}: {value.type}" for value in self.arguments.values())
        results = ", ".join(value.type for value in self.outputs)
        lines = ["module {", *self.declarations, f"func.func @step({arguments}) -> ({results}) {{", *self.lines,
                 f"return {', '.join(value.name for value in self.outputs)} : {results}", "}", "}"]
        return "\n".join(lines) + "\n"

    def evaluate(self, inputs, weights, states):
        """The values of the outputs. inputs: {name: float64 or int array}; weights: {symbol: float64 array};
        states: {"name.keys": float64 array}, changed as the step changes them."""
        env = {**inputs, "weights": weights, "states": states}
        values = {value.name: env[name] for name, value in self.arguments.items()}
        for results, operands, compute in self.nodes:
            got = compute(env, *(values[operand.name] for operand in operands))
            for result, value in zip(results, got if len(results) > 1 else [got]):
                values[result.name] = rounded(value, result.element)
        return [values[output.name] for output in self.outputs]

    def zero_states(self, sequences, context):
        zeros = {}
        for name, (heads, key_dim, value_dim, _) in self.states.items():
            zeros[f"{name}.keys"] = np.zeros((sequences, context, heads, key_dim))
            zeros[f"{name}.values"] = np.zeros((sequences, context, heads, value_dim))
        return zeros

    def stored_weight(self, weights):
        """What bind() calls for a weight of the checkpoint."""
        by_source = {source: (element, encode(weights[symbol], element)) for symbol, (source, _, element) in self.weights.items()}
        return lambda source, shape: by_source[source]

    def checkpoint_tensors(self, weights):
        """{tensor name: (element, array)} as a safetensors file holds them."""
        tensors = {}
        for symbol, (source, dims, element) in self.weights.items():
            if "{}" in source:
                for expert in range(dims[0]):
                    tensors[source.replace("{}", str(expert))] = (element, encode(weights[symbol][expert], element))
            else:
                tensors[source] = (element, encode(weights[symbol], element))
        return tensors


def named(**values):
    return {name: value for name, value in values.items() if value is not None}


def operand_text(parts):
    return " ".join(f"{name} {value.name}" for name, value in parts.items())


def type_text(parts):
    return ", ".join(f"{name} {value.type}" for name, value in parts.items())


def options_text(options):
    return " {" + ", ".join(f"{name} = {value:e} : f64" for name, value in options.items()) + "}" if options else ""


def rope_text(value):
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ", ".join(f"{item:e}" for item in value) + "]"
    return f"{value:.17e}" if isinstance(value, float) else str(value)


def heads_of(x, parts):
    """[T, N] as [T, parts, N / parts]; T may be 0."""
    return x.reshape(len(x), parts, x.shape[1] // parts)


def softmax(values):
    powers = np.exp(values - values.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


ERF = np.vectorize(math.erf, otypes=[np.float64])
ACTIVATIONS = {
    "silu": lambda x: x * sigmoid(x),
    "gelu": lambda x: 0.5 * x * (1 + ERF(x / math.sqrt(2))),
    "gelu_tanh": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "relu": lambda x: np.maximum(x, 0),
}


def network(x, weights, activation, x_element, alpha=1.702, limit=7.0):
    """moe.ffn on rows of x (or one row)."""
    part = lambda name, x: x @ weights[name].T + weights.get(f"{name}_bias", 0)
    up = part("up", x)
    if activation == "oss_swiglu":
        gate = np.minimum(part("gate", x), limit)
        hidden = gate * sigmoid(alpha * gate) * (np.clip(up, -limit, limit) + 1)
    elif "gate" in weights:
        hidden = ACTIVATIONS[activation](part("gate", x)) * up
    else:
        hidden = ACTIVATIONS[activation](up)
    return part("down", rounded(hidden, x_element))


def best(values, count):
    """Indices of the `count` largest, in descending order, ties to the lower index."""
    return sorted(range(len(values)), key=lambda i: (-values[i], i))[:count]


def route(logits, bias, k, score, renormalize, epsilon, scale, groups, keep, group_score, routers=1):
    if routers > 1:
        # Each by itself, its experts numbered behind those of the ones before.
        size, biases = logits.shape[1] // routers, np.broadcast_to(bias, logits.shape[1:])
        own = [slice(r * size, (r + 1) * size) for r in range(routers)]
        parts = [route(logits[:, columns], biases[columns], k // routers, score, renormalize, epsilon, scale, groups, keep, group_score) for columns in own]
        return (np.concatenate([ids + columns.start for (ids, _), columns in zip(parts, own)], 1).astype(np.int32),
                np.concatenate([weights for _, weights in parts], 1))
    ids, weights = np.zeros((len(logits), k), np.int32), np.zeros((len(logits), k))
    for t, row in enumerate(logits):
        s = {"softmax": softmax, "sigmoid": sigmoid, "identity": lambda x: x}[score](row)
        c = s + bias
        if groups > 1:
            parts = c.reshape(groups, -1)
            totals = parts.max(1) if group_score == "max" else np.sort(parts, 1)[:, -2:].sum(1)
            kept = best(totals, keep)
            c = np.where(np.isin(np.arange(len(c)) // parts.shape[1], kept), c, -np.inf)
        ids[t] = best(c, k)
        w = s[ids[t]]
        if renormalize == "sum":
            w = w / (w.sum() + epsilon)
        elif renormalize == "softmax":
            w = softmax(w)
        weights[t] = scale * w
    return ids, weights


def inverse_frequencies(kind, theta, dim, factor=1.0, original_context=0, beta_fast=32.0, beta_slow=1.0, truncate=True,
                        low_freq_factor=1.0, high_freq_factor=4.0, dim_factors=None, **_):
    base = theta ** (-np.arange(0, dim, 2) / dim)
    if kind == "linear":
        return base / factor
    if kind == "llama3":
        wavelength = 2 * np.pi / base
        smooth = (original_context / wavelength - low_freq_factor) / (high_freq_factor - low_freq_factor)
        blended = base * ((1 - smooth) / factor + smooth)
        blended = np.where(wavelength > original_context / low_freq_factor, base / factor, blended)
        return np.where(wavelength < original_context / high_freq_factor, base, blended)
    if kind == "yarn":
        turns = lambda beta: dim * np.log(original_context / (beta * 2 * np.pi)) / (2 * np.log(theta))
        low, high = turns(beta_fast), turns(beta_slow)
        if truncate:
            low, high = np.floor(low), np.ceil(high)
        low, high = max(low, 0), min(high, dim - 1)
        high += 0.001 if low == high else 0
        ramp = np.clip((np.arange(dim // 2) - low) / (high - low), 0, 1)
        return base / factor * ramp + base * (1 - ramp)
    if kind == "longrope":
        return base / np.array(dim_factors)
    return base


def rotate(x, pos, rope):
    """x [T, heads, D] turned; angles in f32, as transformers computes them."""
    frequencies = inverse_frequencies(**rope).astype(np.float32)
    angles = (pos.astype(np.float32)[:, None] * frequencies).astype(np.float64)[:, None, :]
    cos, sin = (np.float32(rope.get("attention_factor", 1.0)) * f(angles) for f in (np.cos, np.sin))
    begin, half, dim = rope.get("offset", 0), rope["dim"] // 2, rope["dim"]
    first, second = (slice(begin, begin + dim, 2), slice(begin + 1, begin + dim, 2)) if rope.get("interleaved") else \
        (slice(begin, begin + half), slice(begin + half, begin + dim))
    out = x.copy()
    out[..., first] = x[..., first] * cos - x[..., second] * sin
    out[..., second] = x[..., second] * cos + x[..., first] * sin
    return out
