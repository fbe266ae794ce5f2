"""The MoE layer of many articles, as moe IR beside a PyTorch module: what the families do not cover.

Softmax router with a bias, top-k, a second softmax over the chosen probabilities, and experts of two plain linear
layers with SiLU between and a bias on each. One fixture keeps every expert in a tensor of its own, one has them
stacked. The entry is that of every model; the layer's input is an embedding row and its output, a row of H numbers,
stands where logits stand.
"""

import json
import pathlib

import numpy as np
import torch
from torch import nn

import safetensors_io as st

# name: (V, H, I, E, K, stacked in one tensor, seed). V = H: the width of the result is the vocabulary ids are checked against.
SHAPES = {
    "textbook-moe": (24, 24, 40, 5, 2, False, 31),
    "textbook-moe-stacked": (32, 32, 27, 12, 4, True, 32),
}
NAMES = tuple(SHAPES)
LENGTHS = (19, 1, 4, 37)


class TextbookMoE(nn.Module):
    def __init__(self, hidden, ffn, experts, k):
        super().__init__()
        self.k = k
        self.router = nn.Linear(hidden, experts)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(hidden, ffn), nn.SiLU(), nn.Linear(ffn, hidden)) for _ in range(experts))

    def forward(self, x):
        probabilities = torch.softmax(self.router(x), dim=-1)
        values, chosen = torch.topk(probabilities, self.k, dim=-1)
        weights = torch.softmax(values, dim=-1)
        result = torch.zeros_like(x)
        for token in range(x.shape[0]):
            for weight, expert in zip(weights[token], chosen[token]):
                result[token] += weight * self.experts[int(expert)](x[token])
        top = probabilities.log().sort(-1, descending=True).values
        return result, float((top[:, self.k - 1] - top[:, self.k]).min())


def ir(V, H, I, E, K, stacked):
    """The layer in moe IR, f32 throughout."""
    def declare(symbol, parameter, shape):
        dims = "x".join(map(str, shape))
        if stacked:
            return f'  moe.weight @{symbol} : tensor<{dims}xf32>'
        return f'  moe.weight @{symbol} source "experts.{{}}.{parameter}" stacked : tensor<{dims}xf32>'
    up, up_bias, down, down_bias = f"{E}x{I}x{H}xf32", f"{E}x{I}xf32", f"{E}x{H}x{I}xf32", f"{E}x{H}xf32"
    return "\n".join([
        "module {",
        f"  moe.weight @table : tensor<{V}x{H}xf32>",
        f"  moe.weight @router.weight : tensor<{E}x{H}xf32>",
        f"  moe.weight @router.bias : tensor<{E}xf32>",
        declare("up", "0.weight", (E, I, H)), declare("up_bias", "0.bias", (E, I)),
        declare("down", "2.weight", (E, H, I)), declare("down_bias", "2.bias", (E, H)),
        "  func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>,",
        f"                  %rows: tensor<?xi32>) -> tensor<?x{H}xf32> {{",
        f"    %table = moe.get_weight @table : tensor<{V}x{H}xf32>",
        f"    %router = moe.get_weight @router.weight : tensor<{E}x{H}xf32>",
        f"    %router_bias = moe.get_weight @router.bias : tensor<{E}xf32>",
        f"    %up = moe.get_weight @up : tensor<{up}>",
        f"    %up_bias = moe.get_weight @up_bias : tensor<{up_bias}>",
        f"    %down = moe.get_weight @down : tensor<{down}>",
        f"    %down_bias = moe.get_weight @down_bias : tensor<{down_bias}>",
        f"    %x = moe.embedding %tokens, %table : tensor<?xi32>, tensor<{V}x{H}xf32> -> tensor<?x{H}xf32>",
        f"    %logits = moe.linear %x, %router bias %router_bias : tensor<?x{H}xf32>, tensor<{E}x{H}xf32>, tensor<{E}xf32>",
        f"        -> tensor<?x{E}xf32>",
        f"    %chosen, %weights = moe.route %logits top {K} score softmax renormalize softmax",
        f"        : tensor<?x{E}xf32> -> tensor<?x{K}xi32>, tensor<?x{K}xf32>",
        "    %y = moe.experts %x, %chosen up %up down %down up_bias %up_bias down_bias %down_bias activation silu",
        f"        : tensor<?x{H}xf32>, tensor<?x{K}xi32>, up tensor<{up}>, down tensor<{down}>,",
        f"          up_bias tensor<{up_bias}>, down_bias tensor<{down_bias}> -> tensor<?x{K}x{H}xf32>",
        f"    %sum = moe.combine %y, %weights : tensor<?x{K}x{H}xf32>, tensor<?x{K}xf32> -> tensor<?x{H}xf32>",
        f"    %result = moe.gather_rows %sum, %rows : tensor<?x{H}xf32>, tensor<?xi32> -> tensor<?x{H}xf32>",
        f"    return %result : tensor<?x{H}xf32>",
        "  }",
        "}",
    ]) + "\n"


@torch.no_grad()
def make(target, versions):
    V, H, I, E, K, stacked, seed = SHAPES[target.name]
    rng = np.random.default_rng(seed)
    table = rng.standard_normal((V, H)).astype(np.float32)
    layer = TextbookMoE(H, I, E, K)
    tensors = {"table": st.to_storage(table, "float32")}
    for name, p in layer.named_parameters():
        scale = 0.3 if name.endswith("bias") else 1.6 / np.sqrt(p.shape[-1])
        values = (rng.standard_normal(tuple(p.shape)) * scale).astype(np.float32)
        p.copy_(torch.from_numpy(values))
        tensors[name] = st.to_storage(values, "float32")
    if stacked:
        for symbol, parameter in (("up", "0.weight"), ("up_bias", "0.bias"), ("down", "2.weight"), ("down_bias", "2.bias")):
            parts = [st.from_storage(tensors.pop(f"experts.{e}.{parameter}")) for e in range(E)]
            tensors[symbol] = st.to_storage(np.stack(parts), "float32")
    sequences = [rng.integers(0, V, n).tolist() for n in LENGTHS]
    rows = torch.from_numpy(table[np.concatenate(sequences)]).double()
    reference, gap = layer.double()(rows)
    assert gap > 1e-4, f"{target.name}: router gap {gap}; choose another seed"

    target.mkdir(parents=True, exist_ok=True)
    (target / "model.mlir").write_text(ir(V, H, I, E, K, stacked))
    st.write(target / "model.safetensors", tensors)
    (target / "ids.json").write_text(json.dumps(sequences) + "\n")
    np.save(target / "logits.npy", reference.numpy().astype(np.float32))
    meta = {"family": "textbook", "why": TextbookMoE.__name__ + (", stacked experts" if stacked else ""), "seed": seed,
            "tokens": len(rows), "vocabulary": H, "min_router_gap": float(f"{gap:.3g}"), "versions": versions,
            "max_abs_logit": round(float(reference.abs().max()), 4)}
    pathlib.Path(target / "meta.json").write_text(json.dumps(meta, indent=1, sort_keys=True) + "\n")
    print(f"{target.name:24} T={len(rows):4} H={H} E={E} K={K} gap {gap:.2g}")
