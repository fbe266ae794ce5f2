#!/usr/bin/env python3
"""Prunes the FFNs of a Llama per layer: prune.py MODEL OUT

By magnitude, without training: the half of the layers whose channels matter least loses as few as OUT can say (more,
and a model that nobody trains afterwards is of no use). OUT is a nemotron-nas directory, the
format in which layers have widths of their own; it says widths in multiples of 256, so the other layers are padded with
zeros where need be. Executed by the Python of an engine's environment; imports nothing of this
repository.
"""

import json
import pathlib
import shutil
import sys

import torch
from safetensors.torch import load_file, save_file

UNIT = 256


def channel_norms(mlp):
    return mlp["gate_proj"].norm(dim=1) * mlp["up_proj"].norm(dim=1) * mlp["down_proj"].norm(dim=0)


def resized(mlp, width):
    """The strongest channels, in their order, and zeros up to `width`."""
    norms = channel_norms(mlp)
    keep = norms.topk(min(width, len(norms))).indices.sort().values
    out = {}
    for name, weight in mlp.items():
        dim = 1 if name == "down_proj" else 0
        kept = weight.index_select(dim, keep)
        shape = list(kept.shape)
        shape[dim] = width
        out[name] = torch.zeros(shape)
        out[name].narrow(dim, 0, len(keep)).copy_(kept)
    return out


def main():
    source, out = map(pathlib.Path, sys.argv[1:])
    config = json.loads((source / "config.json").read_text())
    tensors = {}
    for path in sorted(source.glob("*.safetensors")):
        tensors |= {name: tensor.float() for name, tensor in load_file(path).items()}
    layers = config["num_hidden_layers"]

    def name_of(layer, projection):
        return f"model.layers.{layer}.mlp.{projection}.weight"

    ffns = [{p: tensors[name_of(layer, p)] for p in ("gate_proj", "up_proj", "down_proj")} for layer in range(layers)]
    intermediate = config["intermediate_size"]
    full, narrow = -(-intermediate // UNIT) * UNIT, (intermediate - 1) // UNIT * UNIT
    weakest = set(sorted(range(layers), key=lambda layer: float(channel_norms(ffns[layer]).sum()))[:layers // 2])
    widths = [narrow if layer in weakest else full for layer in range(layers)]
    for layer, width in enumerate(widths):
        for projection, weight in resized(ffns[layer], width).items():
            tensors[name_of(layer, projection)] = weight

    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    config |= {
        "architectures": ["DeciLMForCausalLM"], "model_type": "nemotron-nas", "intermediate_size": None,
        "num_key_value_heads": None, "dtype": "float32", "torch_dtype": "float32",
        "block_configs": [{"attention": {"n_heads_in_group": heads // kv_heads, "no_op": False, "replace_with_linear": False},
                           "ffn": {"ffn_mult": 3 * width / (2 * config["hidden_size"]), "no_op": False,
                                   "replace_with_linear": False}} for width in widths],
    }
    out.mkdir(parents=True)
    (out / "config.json").write_text(json.dumps(config, indent=1))
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, out / "model.safetensors", metadata={"format": "pt"})
    for path in source.glob("*token*"):
        shutil.copy(path, out)
    print(f"{layers} layers, widths {min(widths)} and {max(widths)}")


if __name__ == "__main__":
    main()
