"""Fused windows and their repair through `transformers`, for calibrate_hf.py; the definitions are in docs/calibration.md.

Written one window at a time, sharing nothing between them: slower than `moe-run calibrate` per window and easier to check
it against. Layers are called as the official class calls them, with the arguments that it gave them in a run of the whole
model; sums and solves are f64.
"""

import torch

FORMS = "RDP"
ATTENTION, FFN, OUTPUT = 1, 2, 4  # bits of window_repair
FLOOR = 2.0**-10  # of a scale that a map can see through


class Pieces:
    """The layers of a model, to be run on other inputs than they have."""

    def __init__(self, model):
        """`model`: of transformers, with model.model.layers."""
        self.model, self.layers, self.arguments = model, model.model.layers, {}
        for index, layer in enumerate(self.layers):
            for kind, module in (("layer", layer), ("attention", layer.self_attn)):
                module.register_forward_pre_hook(self.keep(kind, index), with_kwargs=True)
        self.norms = {}
        hidden = model.config.hidden_size
        for index, layer in enumerate(self.layers):
            for kind, norm in (("attention", layer.input_layernorm), ("ffn", layer.post_attention_layernorm)):
                large = torch.full((1, hidden), 2.0**13, dtype=norm.weight.dtype, device=norm.weight.device)
                eps = getattr(norm, "variance_epsilon", getattr(norm, "eps", None))
                self.norms[kind, index] = norm(large)[0].float(), eps
        self.recording = False

    def keep(self, kind, index):
        def hook(_, args, kwargs):
            if self.recording:
                self.arguments[kind, index] = {name: value for name, value in kwargs.items() if name != "hidden_states"}
                if kind == "layer":
                    self.entering.append((args[0] if args else kwargs["hidden_states"])[0].clone())
        return hook

    def record(self, ids):
        """Runs the model on `ids`: the arguments of its layers, logits, the stream before every layer and behind the last."""
        self.recording, self.entering = True, []
        last = []
        handle = self.layers[-1].register_forward_hook(
            lambda _, __, output: last.append((output[0] if isinstance(output, tuple) else output).reshape_as(self.entering[-1])))
        logits = self.model(ids[None], use_cache=False).logits[0]
        handle.remove()
        self.recording = False
        return logits, self.entering + last

    def normed(self, x, kind, index):
        """x / rms(x)."""
        return x * torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + self.norms[kind, index][1])

    def branch(self, kind, index, normed, mapping=None, shared=None):
        """What the branch adds when its norm gives `normed` before its scale, through a map."""
        scale = self.norms[kind, index][0]
        if mapping is not None:
            normed = (normed * (shared.abs() >= FLOOR)) @ mapping
        normed = (normed * scale).to(self.model.dtype)
        layer = self.layers[index]
        if kind == "ffn":
            output = layer.mlp(normed[None])
        else:
            output = layer.self_attn(hidden_states=normed[None], **self.arguments["attention", index])
        output = output[0] if isinstance(output, tuple) else output
        return output.reshape(normed.shape)

    def inside(self, x, index):
        """The stream between attention and FFN."""
        return x + self.branch("attention", index, self.normed(x, "attention", index))

    def finish(self, x, index):
        """Logits of the stream before layer `index`."""
        x = x[None]
        for i in range(index, len(self.layers)):
            output = self.layers[i](x, **self.arguments["layer", i])
            x = output[0] if isinstance(output, tuple) else output
        return self.model.lm_head(self.model.model.norm(x))[0]


class Window:
    """`length` layers from `first` on in one form, and maps that repair them (row vectors from the left; None: none)."""

    def __init__(self, pieces, first, length, form):
        self.pieces, self.first, self.length, self.form = pieces, first, length, form
        self.layers = range(first, first + length)
        scales = [pieces.norms["ffn", i][0] for i in self.layers]
        differ = any(not torch.equal(a, scales[-1]) for a in scales)
        self.ffn_scale = scales[-1].abs().clamp(min=FLOOR) if differ else scales[-1]
        scales = [pieces.norms["attention", i][0] for i in self.layers]
        differ = any(not torch.equal(a, scales[-1]) for a in scales)
        self.attention_scale = scales[-1].abs().clamp(min=FLOOR) if differ else scales[-1]

    def attend(self, x, maps, upto=None):
        """The stream behind the window's attentions (the first `upto`)."""
        z, pieces = x, self.pieces
        for i in list(self.layers)[:upto] if self.form != "R" else []:
            normed = pieces.normed(x if self.form == "P" else z, "attention", i)
            shared = self.attention_scale if self.form == "P" else pieces.norms["attention", i][0]
            z = z + pieces.branch("attention", i, normed, maps.get(i), shared)
        return z

    def feed(self, z, maps):
        normed = self.pieces.normed(z, "ffn", self.layers[-1])
        return sum(self.pieces.branch("ffn", i, normed, maps.get(i), self.ffn_scale) for i in self.layers)


def solve(gram, cross, ridge):
    penalty = ridge * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    return torch.linalg.solve(gram + penalty, cross + penalty)


class Bench:
    """Fits windows on one half of the text and judges them on the other."""

    def __init__(self, pieces, fitted, judged, ridge):
        self.pieces, self.fitted, self.judged, self.ridge = pieces, fitted, judged, ridge
        self.every = 4 if len(judged) >= 8 else 1

    def fit(self, gather):
        """The map from inputs to targets over the fitted text; gather(stream) gives both for a sequence."""
        gram = cross = 0
        for ids in self.fitted:
            _, stream = self.pieces.record(ids)
            x, y = (value.double() for value in gather(stream))
            gram, cross = gram + x.T @ x, cross + x.T @ y
        return solve(gram, cross, self.ridge).float()

    def judge(self, window, attention, ffn, output, every):
        """Sums over each judged sequence: KL, equal winners, squared error and squared contribution."""
        rows = []
        for ids in self.judged[::every]:
            logits, stream = self.pieces.record(ids)
            z = window.attend(stream[window.first], attention)
            added = window.feed(z, ffn)
            z = z + (added if output is None else added @ output)
            behind = stream[window.first + window.length]
            full = torch.log_softmax(logits.double(), -1)
            changed = torch.log_softmax(self.pieces.finish(z, window.first + window.length).double(), -1)
            rows.append([float((full.exp() * (full - changed)).sum()), int((full.argmax(-1) == changed.argmax(-1)).sum()),
                         float((z - behind).double().pow(2).sum()),
                         float((behind - stream[window.first]).double().pow(2).sum())])
        return torch.tensor(rows, dtype=torch.float64)

    def attention_maps(self, window):
        pieces, maps = self.pieces, {}
        for j, i in list(enumerate(window.layers))[1:] if window.form != "R" else []:
            def gather(stream):
                z = window.attend(stream[window.first], maps, j) if window.form == "D" else stream[window.first]
                x = pieces.normed(z, "attention", i)
                if window.form == "D":
                    x = x * (pieces.norms["attention", i][0].abs() >= FLOOR)
                return x, pieces.normed(stream[i], "attention", i)
            maps[i] = self.fit(gather)
        return maps

    def ffn_maps(self, window, attention):
        pieces, seen = self.pieces, window.ffn_scale.abs() >= FLOOR
        return {i: self.fit(lambda stream: (pieces.normed(window.attend(stream[window.first], attention), "ffn", i) * seen,
                                            pieces.normed(pieces.inside(stream[i], i), "ffn", i)))
                for i in window.layers}

    def output_map(self, window, attention, ffn):
        def gather(stream):
            z = window.attend(stream[window.first], attention)
            return window.feed(z, ffn), stream[window.first + window.length] - z
        return self.fit(gather)

    def repair(self, window):
        """Stages that help, judged plain and repaired."""
        total = lambda score: float(score[:, 0].sum())
        plain = self.judge(window, {}, {}, None, 1)
        best, stages = total(plain[::self.every]), 0
        maps = {"attention": {}, "ffn": {}, "output": None}

        def attempt(bits, **changed):
            nonlocal best, stages, maps
            trial = {**maps, **changed}
            score = total(self.judge(window, *trial.values(), self.every))
            if score < best:
                best, stages, maps = score, bits, trial
                return True
            return False

        attention = self.attention_maps(window)
        if attention:
            attempt(ATTENTION, attention=attention)
        ffn = self.ffn_maps(window, maps["attention"])
        before = stages
        helps = attempt(stages | FFN, ffn=ffn)
        variants = [({}, 0)] if not helps else []
        fitted = [(used, bit, self.output_map(window, maps["attention"], used)) for used, bit in variants + [(ffn, FFN)]]
        for used, bit, output in fitted:
            attempt(before | bit | OUTPUT, ffn=used, output=output)
        score = self.judge(window, *maps.values(), 1) if stages else plain
        if total(score) >= total(plain):
            score, stages = plain, 0
        return plain, score, stages


def measure_windows(model, fitted, judged, judged_domains, facts):
    """The tensors of the windows that `facts` (of a calibration) ask for."""
    pieces, rows, domains = Pieces(model), [], len(facts["domains"])
    bench = Bench(pieces, fitted, judged, facts["ridge"])
    tokens = torch.tensor([len(ids) for ids in judged], dtype=torch.float64)
    of_domain = torch.tensor(judged_domains)
    student = torch.distributions.StudentT(float(len(judged) - 1)) if len(judged) > 1 else None
    for first in range(len(pieces.layers)):
        for form in facts["forms"]:
            for length in range(1 if form == "R" else 2, min(facts["max_window"], len(pieces.layers) - first) + 1):
                plain, score, stages = bench.repair(Window(pieces, first, length, form))
                means = score.sum(0) / tokens.sum()
                error = lambda value: float((value[:, 2].sum() / value[:, 3].sum()).sqrt())
                spread = (score[:, 0] - means[0] * tokens).pow(2).sum() * len(tokens) / max(len(tokens) - 1, 1)
                bound = float(means[0] + quantile95(student) * spread.sqrt() / tokens.sum()) if student else float("inf")
                per_domain = [float(score[of_domain == d, 0].sum() / tokens[of_domain == d].sum()) for d in range(domains)]
                rows.append(((first, length, FORMS.index(form)), error(plain), error(score), float(plain[:, 0].sum() / tokens.sum()),
                             float(means[0]), bound, float(means[1]), stages, per_domain))
                print(f"window {form} {first} x {length}: {rows[-1][3]:.4f} {rows[-1][4]:.4f}", flush=True)
    columns = list(zip(*rows))
    names = ["window_error", "window_error_repaired", "window_kl", "window_kl_repaired", "window_kl_bound", "window_same_winner"]
    tensors = {name: torch.tensor(column, dtype=torch.float64) for name, column in zip(names, columns[1:7])}
    tensors["windows"] = torch.tensor(columns[0], dtype=torch.int32)
    tensors["window_repair"] = torch.tensor(columns[7], dtype=torch.int32)
    tensors["window_kl_domains"] = torch.tensor(columns[8], dtype=torch.float64)
    return tensors


def quantile95(student):
    """Of Student's t, by bisection of its density's integral: torch has no inverse of it."""
    freedom = float(student.df)
    steps = torch.linspace(0, 1, 20001, dtype=torch.float64)

    def below(t):
        values = torch.exp(torch.distributions.StudentT(torch.tensor(freedom, dtype=torch.float64)).log_prob(steps * t))
        return 0.5 + float(torch.trapezoid(values, steps * t))

    low, high = 0.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if below(middle) < 0.95 else (low, middle)
    return low
