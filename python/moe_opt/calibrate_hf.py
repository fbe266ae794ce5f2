#!/usr/bin/env python3
"""The calibration of `moe-run calibrate`, through `transformers`: for models that one wants to calibrate on GPUs, and as
an independent check (--against).

    calibrate_hf.py MODEL_DIR --ids-from CALIBRATION -o OUT [--device cuda] [--dtype float32]
    calibrate_hf.py MODEL_DIR --ids-from CALIBRATION --against CALIBRATION

Reads the ids, their split into sequences and their domains from a calibration file, so that both measure the same
tokens; runs the decoder layers of the official class with hooks that replace or record what a sub-layer adds to the
residual stream, and writes a file of the same form (docs/calibration.md, which also has the definitions). With --against
it prints the largest difference of every figure and exits with 1 when one is beyond its bound: 1e-3 for cosine distances
and ratios of norms, 1 % for KL (or 1e-5, whichever is larger) and loss. Windows are measured if the calibration has them
(windows_hf.py); where the two sides keep other stages of a repair, the KLs were too close to tell, and 5 % is the bound.

Works for decoder-only classes whose layers are `model.model.layers[i]` with `self_attn` and `mlp` (Llama, Mistral, Qwen,
Mixtral, ...), each of which is added to the stream once. Needs torch, transformers and safetensors.
"""

import argparse
import json
import sys

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from windows_hf import measure_windows


def read(path):
    """Tensors and the JSON text of a calibration."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        if "calibration" not in metadata:
            sys.exit(f"{path}: is no finished calibration: its metadata has the keys {sorted(metadata)}, not 'calibration'")
        return {name: file.get_tensor(name) for name in file.keys()}, json.loads(metadata["calibration"])


class Instrumented:
    """A model whose sub-layers can be left out, and that keeps the stream before and behind every layer."""

    def __init__(self, model):
        self.model = model
        self.layers = model.model.layers
        self.off = set()  # (layer, "attention" or "ffn")
        self.stream, self.attention = [], []
        for index, layer in enumerate(self.layers):
            layer.register_forward_pre_hook(self.before(), with_kwargs=True)
            layer.register_forward_hook(self.behind(index))
            layer.self_attn.register_forward_hook(self.branch(index, "attention"))
            layer.mlp.register_forward_hook(self.branch(index, "ffn"))

    def before(self):
        def hook(_, args, kwargs):
            self.stream.append((args[0] if args else kwargs["hidden_states"])[0].double())
        return hook

    def behind(self, index):
        def hook(_, __, output):
            if index == len(self.layers) - 1:
                self.stream.append((output[0] if isinstance(output, tuple) else output).reshape_as(
                    self.stream[-1]).double())
        return hook

    def branch(self, index, kind):
        def hook(_, __, output):
            value = output[0] if isinstance(output, tuple) else output
            if (index, kind) in self.off:
                value = torch.zeros_like(value)
            if kind == "attention":
                self.attention.append(value.reshape(value.shape[-2:]).double())
            return (value, *output[1:]) if isinstance(output, tuple) else value
        return hook

    def run(self, ids, off=()):
        """Log-probabilities in f64, with the sub-layers of `off` left out."""
        self.off, self.stream, self.attention = set(off), [], []
        logits = self.model(ids[None], use_cache=False).logits[0]
        return torch.log_softmax(logits.double(), dim=-1)


def distance(a, b):
    """Sum over tokens of the cosine distance."""
    return float((1 - torch.nn.functional.cosine_similarity(a, b, dim=-1, eps=1e-30)).sum())


def ratio(a, b):
    return float((a.norm(dim=-1) / b.norm(dim=-1)).sum())


def measure(model, sequences, device):
    """The means of every figure over the tokens of `sequences`."""
    layers = len(model.layers)
    vector = lambda: torch.zeros(layers, dtype=torch.float64)
    names = ["block_influence", "attention_contribution", "block_norm_ratio", "attention_norm_ratio", "ffn_norm_ratio"]
    sums = {name: vector() for name in names}
    for what in ("attention_removed", "layer_removed"):
        sums.update({f"{what}_{figure}": vector() for figure in ("kl", "loss", "same_winner")})
    sums["dependency"] = torch.zeros(layers, layers, dtype=torch.float64)
    sums["base_loss"] = torch.zeros((), dtype=torch.float64)
    tokens = predicted = 0
    for number, ids in enumerate(sequences):
        print(f"sequence {number + 1} of {len(sequences)}", file=sys.stderr)
        ids = ids.to(device).long()
        full = model.run(ids)
        stream, attention = model.stream, model.attention
        added = [after - before for before, after in zip(stream, stream[1:])]
        loss = lambda log: float(-log[:-1].gather(1, ids[1:, None]).sum())
        tokens += len(ids)
        predicted += len(ids) - 1
        sums["base_loss"] += loss(full)
        for l in range(layers):
            middle = stream[l] + attention[l]
            sums["block_influence"][l] += distance(stream[l], stream[l + 1])
            sums["attention_contribution"][l] += distance(stream[l], middle)
            sums["block_norm_ratio"][l] += ratio(added[l], stream[l])
            sums["attention_norm_ratio"][l] += ratio(attention[l], stream[l])
            sums["ffn_norm_ratio"][l] += ratio(stream[l + 1] - middle, middle)
            for what, off in (("attention_removed", [(l, "attention")]),
                              ("layer_removed", [(l, "attention"), (l, "ffn")])):
                changed = model.run(ids, off)
                sums[f"{what}_kl"][l] += float((full.exp() * (full - changed)).sum())
                sums[f"{what}_loss"][l] += loss(changed)
                sums[f"{what}_same_winner"][l] += int((full.argmax(-1) == changed.argmax(-1)).sum())
                if what == "layer_removed":
                    for j in range(l + 1, layers):
                        sums["dependency"][l, j] += distance(added[j], model.stream[j + 1] - model.stream[j])
    return {name: value / (predicted if name.endswith("loss") else tokens) for name, value in sums.items()}


def pick(held_out, domains, wanted, count):
    """`count` sequences that are held out (or are not), of every domain by turns, as moe-run takes them."""
    of_domain = [[i for i, held in enumerate(held_out) if held == wanted and domains[i] == d] for d in range(max(domains) + 1)]
    turns = [own[turn] for turn in range(len(domains)) for own in of_domain if turn < len(own)]
    return sorted(turns[:count])


def compare(ours, theirs):
    """Prints the differences; whether all are inside their bounds."""
    good = True
    close = None  # windows whose repair is not the same
    if "window_repair" in ours:
        assert torch.equal(ours["windows"], theirs["windows"]), "other windows"
        close = ours["window_repair"] != theirs["window_repair"]
        print(f"{int(close.sum())} of {len(close)} windows keep other stages of their repair")
    for name in sorted(set(ours) - {"windows", "window_repair"}):
        difference = (ours[name] - theirs[name]).abs()
        if close is not None and name.startswith("window_") and name not in ("window_kl", "window_error"):
            rows = close if ours[name].dim() == 1 else close[:, None]
            difference = torch.where(rows, difference * 0.2 if "kl" in name else difference * 0, difference)
        if name.endswith(("_kl", "loss")) or name.startswith("window_kl"):
            bound = torch.maximum(0.01 * ours[name].abs(), torch.full_like(ours[name], 1e-5))
        else:
            bound = torch.full_like(ours[name], 1e-3)
        if name.endswith("same_winner"):
            bound += 1e-2  # near ties
        inside = bool((difference <= bound).all())
        good &= inside
        print(f"{'ok  ' if inside else 'FAIL'} {name:32} max difference {float(difference.max()):.2e}, "
              f"largest value {float(ours[name].abs().max()):.4f}")
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="Hugging Face directory")
    parser.add_argument("--ids-from", required=True, help="calibration file with the ids to measure on")
    parser.add_argument("-o", "--output", help="file to write")
    parser.add_argument("--against", help="calibration file to compare with")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "float64", "bfloat16"])
    parser.add_argument("--sequences", type=int, help="measure only so many sequences (then --against is of no use)")
    parser.add_argument("--no-windows", action="store_true", help="leave out windows")
    arguments = parser.parse_args()
    tensors, facts = read(arguments.ids_from)
    lengths = tensors["text.lengths"].tolist()
    texts = [ids.to(arguments.device).long() for ids in torch.split(tensors["text.ids"], lengths)]
    held_out, domains = tensors["text.held_out"].tolist(), tensors["text.domain"].tolist()
    sequences = [texts[i] for i in pick(held_out, domains, 0, arguments.sequences or facts["sequences"])]
    model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=getattr(torch, arguments.dtype),
                                                 attn_implementation="eager").to(arguments.device).eval()
    with torch.no_grad():
        if "max_window" in facts and not arguments.no_windows:
            judged = pick(held_out, domains, 1, facts["judged_sequences"])
            windows = measure_windows(model, [texts[i] for i in pick(held_out, domains, 0, len(texts))],
                                      [texts[i] for i in judged], [domains[i] for i in judged], facts)
        else:
            windows = {}
        figures = {**measure(Instrumented(model), sequences, arguments.device), **windows}
    if arguments.output:
        facts.update({"sequences": len(sequences), "tokens": sum(len(ids) for ids in sequences), "variant": "transformers"})
        facts["version"] = 2 if windows else 1
        text = {name: tensors[name] for name in tensors if name.startswith("text.")}
        save_file({**figures, **text}, arguments.output, metadata={"calibration": json.dumps(facts)})
    if arguments.against:
        theirs, _ = read(arguments.against)
        sys.exit(0 if compare(figures, theirs) else 1)


if __name__ == "__main__":
    main()
