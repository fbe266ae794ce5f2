#!/usr/bin/env python3
"""Writes a Hugging Face checkpoint directory whose weights are all zero, as sparse files: a Mixtral-8x7B takes 200 kB.

    make_checkpoint.py OUT --preset mixtral-8x7b
    make_checkpoint.py OUT --preset tiny-llama --set 'rope_scaling={"type": "linear", "factor": 2}'
    make_checkpoint.py OUT --preset tiny-mixtral --drop model.norm.weight --truncate 100

Presets have the config values of the published models, the tensor names and shapes that follow from them, and an index
when the files are sharded. Options break what they name, so that a test can show the message. Plain Python.
"""

import argparse
import json
import pathlib
import struct

LLAMA = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "attention_bias": False,
    "mlp_bias": False, "tie_word_embeddings": False, "torch_dtype": "bfloat16", "rms_norm_eps": 1e-05,
}
MIXTRAL = {
    "architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "hidden_act": "silu", "rms_norm_eps": 1e-05,
    "rope_theta": 1e6, "sliding_window": None, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
    "num_experts_per_tok": 2, "num_local_experts": 8, "vocab_size": 32000, "num_key_value_heads": 8,
}
LLAMA31_ROPE = {
    "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
    "rope_type": "llama3",
}


def shape(layers, hidden, ffn, heads, kv_heads, context):
    return {
        "num_hidden_layers": layers, "hidden_size": hidden, "intermediate_size": ffn, "num_attention_heads": heads,
        "num_key_value_heads": kv_heads, "max_position_embeddings": context,
    }


def blocks(runs):
    """block_configs of nemotron-nas from runs of (heads per key or None, ffn_mult or None, layers)."""
    result = []
    for group, multiple, count in runs:
        for _ in range(count):
            attention = {"n_heads_in_group": group, "no_op": group is None, "num_sink_tokens": None, "replace_with_linear": False,
                         "sparsify": None, "unshifted_sink": False, "use_prefill_window_in_sink_attention": False, "window_length": None}
            ffn = {"ffn_mult": multiple, "no_op": multiple is None, "replace_with_linear": False, "sparsify": None}
            result.append({"attention": attention, "ffn": ffn})
    return result


# Llama-3_1-Nemotron-Ultra-253B-v1: 162 slots, of which 81 are empty; four hold FFNs fused from 8, 12, 15 and 14 layers.
ULTRA = [
    (16, 0.4875, 1), (16, 0.975, 1), (16, 1.4625, 6), (16, 1.95, 1), (None, None, 4), (16, 1.95, 3), (16, 4.875, 2), (None, None, 6),
    (16, 4.875, 3), (None, None, 5), (16, 4.875, 3), (16, 2.4375, 1), (None, None, 3), (16, 1.95, 3), (None, 1.95, 1), (16, 4.875, 1),
    (None, 4.875, 1), (None, None, 5), (16, 4.875, 4), (None, None, 5), (16, 4.875, 4), (None, None, 5), (16, 4.875, 4), (None, None, 5),
    (16, 4.875, 4), (None, None, 5), (16, 4.875, 1), (16, 3.4125, 3), (None, None, 2), (16, 2.925, 1), (16, 2.4375, 3),
    (None, 2.4375, 2), (16, 2.4375, 1), (None, None, 1), (None, 2.4375, 7), (16, 2.4375, 1), (None, None, 5), (16, 2.925, 1),
    (16, 4.875, 1), (None, 4.875, 1), (16, 4.875, 1), (None, None, 8), (None, 36.5625, 1), (None, None, 8), (None, 39.0, 1),
    (None, None, 8), (None, 31.40625, 1), (None, None, 5), (None, 27.5625, 1), (None, 1.95, 1), (16, 1.95, 1), (16, 2.4375, 1),
    (None, None, 1), (16, 2.4375, 2), (16, 3.4125, 1), (16, 4.875, 4), (16, 2.4375, 1),
]
# Widths of the layers before they were fused are not published; these have the sums.
UNFUSED = {36.5625: [(4.875, 7), (2.4375, 1)], 39.0: [(4.875, 4), (2.4375, 8)], 31.40625: [(2.4375, 4), (1.95, 11)], 27.5625: [(1.95, 14)]}


def before_fusion(runs):
    """The 126 layers that the fused ones were made from: without empty slots, wide FFNs taken apart."""
    result = []
    for group, multiple, count in runs:
        if multiple in UNFUSED:
            result += [(None, part, layers) for part, layers in UNFUSED[multiple]]
        elif multiple is not None:
            result.append((group, multiple, count))
    return result


def nemotron(runs, **shape):
    layers = blocks(runs)
    return {**LLAMA, "architectures": ["DeciLMForCausalLM"], "model_type": "nemotron-nas", "intermediate_size": None,
            "num_key_value_heads": None, "num_hidden_layers": len(layers), "block_configs": layers, **shape}


def parts_of(config, layer):
    """(FFN width, heads, key heads) of a layer; 0: it has none."""
    if "block_configs" not in config:
        own = {**config, **config.get("per_layer_config", {}).get(str(layer), {})}
        return own["intermediate_size"], own["num_attention_heads"], own["num_key_value_heads"]
    block = config["block_configs"][layer]
    group, multiple = block["attention"]["n_heads_in_group"], block["ffn"]["ffn_mult"]
    width = -(-int(2 * multiple * config["hidden_size"] / 3) // 256) * 256 if multiple else 0
    return width, config["num_attention_heads"], config["num_attention_heads"] // group if group else 0


LLAMA31 = {**LLAMA, "vocab_size": 128256, "rope_theta": 500000.0, "rope_scaling": LLAMA31_ROPE}
ULTRA_SHAPE = {"vocab_size": 128256, "hidden_size": 16384, "num_attention_heads": 128, "max_position_embeddings": 131072,
               "rope_theta": 500000.0, "rope_scaling": {**LLAMA31_ROPE, "factor": 16.0}}
# Bytes per shard as published; None: one file.
PRESETS = {
    "mixtral-8x7b": ({**MIXTRAL, **shape(32, 4096, 14336, 32, 8, 32768)}, 5 << 30),
    "mixtral-8x22b": ({**MIXTRAL, **shape(56, 6144, 16384, 48, 8, 65536)}, 5 << 30),
    # The sizes of Qwen3-30B-A3B: 128 small experts, heads that are together wider than the hidden state.
    "qwen3-30b-a3b-sizes": ({**MIXTRAL, **shape(48, 2048, 768, 32, 4, 40960), "head_dim": 128, "vocab_size": 151936,
                             "num_local_experts": 128, "num_experts_per_tok": 8}, 5 << 30),
    "llama-2-70b": ({**LLAMA, "vocab_size": 32000, **shape(80, 8192, 28672, 64, 8, 4096)}, 10 << 30),
    "llama-3.1-70b": ({**LLAMA31, **shape(80, 8192, 28672, 64, 8, 131072)}, 5 << 30),
    "llama-3.1-405b": ({**LLAMA31, **shape(126, 16384, 53248, 128, 8, 131072)}, 5 << 30),
    "ultra-253b": (nemotron(ULTRA, **ULTRA_SHAPE), 5 << 30),
    "ultra-253b-unfused": (nemotron(before_fusion(ULTRA), **ULTRA_SHAPE), 5 << 30),
    "tiny-nemotron": (nemotron([(2, 1.0, 1), (None, None, 1), (None, 20.0, 1), (4, None, 1), (None, 1.0, 1), (1, 2.0, 1)], vocab_size=40,
                               hidden_size=16, num_attention_heads=4, max_position_embeddings=64), None),
    "tiny-llama": ({**LLAMA, "vocab_size": 40, **shape(2, 16, 24, 4, 2, 64)}, None),
    "tiny-mixtral": ({**MIXTRAL, **shape(2, 16, 24, 4, 2, 64), "vocab_size": 40, "num_local_experts": 4}, None),
}
ITEM_BYTES = {"F32": 4, "BF16": 2, "F16": 2, "F64": 8, "F8_E4M3": 1, "I8": 1, "I64": 8}


def tensors_of(config):
    """name -> shape, in the order in which transformers saves: by name within a layer."""
    hidden = config["hidden_size"]
    head_dim = config.get("head_dim") or hidden // config["num_attention_heads"]
    tensors = {"model.embed_tokens.weight": [config["vocab_size"], hidden]}
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        ffn, heads, kv_heads = parts_of(config, layer)
        if config["model_type"] == "mixtral":
            tensors[prefix + "block_sparse_moe.gate.weight"] = [config["num_local_experts"], hidden]
            for expert in range(config["num_local_experts"]):
                name = f"{prefix}block_sparse_moe.experts.{expert}."
                tensors[name + "w1.weight"] = [ffn, hidden]
                tensors[name + "w2.weight"] = [hidden, ffn]
                tensors[name + "w3.weight"] = [ffn, hidden]
        elif ffn:
            tensors[prefix + "mlp.gate_proj.weight"] = [ffn, hidden]
            tensors[prefix + "mlp.up_proj.weight"] = [ffn, hidden]
            tensors[prefix + "mlp.down_proj.weight"] = [hidden, ffn]
        if ffn:
            tensors[prefix + "post_attention_layernorm.weight"] = [hidden]
        if not kv_heads:
            continue
        tensors[prefix + "input_layernorm.weight"] = [hidden]
        for name, rows in (("q", heads), ("k", kv_heads), ("v", kv_heads)):
            tensors[f"{prefix}self_attn.{name}_proj.weight"] = [rows * head_dim, hidden]
        tensors[prefix + "self_attn.o_proj.weight"] = [hidden, heads * head_dim]
    tensors["model.norm.weight"] = [hidden]
    if not config.get("tie_word_embeddings"):
        tensors["lm_head.weight"] = [config["vocab_size"], hidden]
    return tensors


def join_experts(tensors):
    """The experts of each layer in two tensors, as the modules of transformers 5 hold them."""
    joined = {}
    for name, dims in tensors.items():
        prefix, _, rest = name.partition("block_sparse_moe.experts.")
        if rest.endswith(".w3.weight"):
            continue
        if rest:
            w1 = rest.endswith(".w1.weight")
            name, dims = prefix + "mlp.experts." + ("gate_up_proj" if w1 else "down_proj"), [dims[0] * (1 + w1), dims[1]]
            experts = joined[name][0] + 1 if name in joined else 1
            joined[name] = [experts] + dims
        else:
            joined[name.replace("block_sparse_moe", "mlp")] = dims
    return joined


def size_of(dims, dtype):
    result = ITEM_BYTES[dtype]
    for dim in dims:
        result *= dim
    return result


def write_file(path, tensors):
    """`tensors`: (name, shape, dtype) in file order. Writes the header; the data are a hole."""
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, dims, dtype in tensors:
        end = offset + size_of(dims, dtype)
        header[name] = {"dtype": dtype, "shape": dims, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        out.truncate(8 + len(text) + offset)
    return offset


def write_weights(folder, tensors, shard_bytes):
    shards, used = [[]], 0
    for tensor in tensors:
        size = size_of(tensor[1], tensor[2])
        if shard_bytes and shards[-1] and used + size > shard_bytes:
            shards.append([])
            used = 0
        shards[-1].append(tensor)
        used += size
    if not shard_bytes:
        write_file(folder / "model.safetensors", shards[0])
        return
    total, weight_map = 0, {}
    for number, shard in enumerate(shards, 1):
        name = f"model-{number:05}-of-{len(shards):05}.safetensors"
        total += write_file(folder / name, shard)
        weight_map.update({tensor[0]: name for tensor in shard})
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


def break_file(path, args):
    """Damage to the first weight file."""
    with open(path, "r+b") as out:
        if args.overlap:
            length = struct.unpack("<Q", out.read(8))[0]
            header = json.loads(out.read(length))
            first, second = [name for name in header if name != "__metadata__"][:2]
            header[second]["data_offsets"] = header[first]["data_offsets"]
            header[second]["shape"] = header[first]["shape"]
            text = json.dumps(header).encode().ljust(length)
            out.seek(8)
            out.write(text)
        if args.header_length is not None:
            out.seek(0)
            out.write(struct.pack("<Q", args.header_length))
        if args.truncate is not None:
            out.seek(0, 2)
            out.truncate(out.tell() - args.truncate)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--preset", choices=PRESETS, required=True)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=JSON", help="config.json only")
    parser.add_argument("--model", action="append", default=[], metavar="KEY=JSON", help="config.json and the tensors")
    parser.add_argument("--remove", action="append", default=[], metavar="KEY", help="from config.json")
    parser.add_argument("--raw-config", metavar="TEXT", help="the whole config.json")
    parser.add_argument("--drop", action="append", default=[], metavar="TENSOR")
    parser.add_argument("--add", action="append", default=[], metavar="TENSOR=DIM,DIM")
    parser.add_argument("--reshape", action="append", default=[], metavar="TENSOR=DIM,DIM")
    parser.add_argument("--rename", action="append", default=[], metavar="PART=PART", help="in every tensor name")
    parser.add_argument("--join-experts", action="store_true", help="one tensor for gate and up of all experts, one for down")
    parser.add_argument("--dtype", default="BF16", help="of all tensors")
    parser.add_argument("--dtype-of", action="append", default=[], metavar="PART=DTYPE", help="tensors with PART in the name")
    parser.add_argument("--shard-bytes", type=int, help="split into files of at most this size")
    parser.add_argument("--delete-shard", type=int, metavar="N", help="remove the N-th file")
    parser.add_argument("--truncate", type=int, metavar="BYTES", help="cut the first file")
    parser.add_argument("--overlap", action="store_true", help="two tensors at one place")
    parser.add_argument("--header-length", type=int, help="the first 8 bytes of the first file")
    args = parser.parse_args()

    config, shard_bytes = PRESETS[args.preset]
    config = dict(config)
    for item in args.model:
        key, value = item.split("=", 1)
        config[key] = json.loads(value)
    tensors = join_experts(tensors_of(config)) if args.join_experts else tensors_of(config)
    for name in args.drop:
        del tensors[name]
    for item in args.reshape:
        name, dims = item.split("=")
        assert name in tensors, name
        tensors[name] = [int(dim) for dim in dims.split(",")]
    for item in args.add:
        name, dims = item.split("=")
        tensors[name] = [int(dim) for dim in dims.split(",")]
    for item in args.rename:
        old, new = item.split("=")
        tensors = {name.replace(old, new): dims for name, dims in tensors.items()}
    dtypes = dict(item.split("=") for item in args.dtype_of)
    listed = [
        (name, dims, next((dtype for part, dtype in dtypes.items() if part in name), args.dtype))
        for name, dims in tensors.items()
    ]
    for item in args.set:
        key, value = item.split("=", 1)
        config[key] = json.loads(value)
    for key in args.remove:
        del config[key]

    args.out.mkdir(parents=True, exist_ok=True)
    for old in args.out.glob("*"):
        old.unlink()
    text = json.dumps(config, indent=2) + "\n" if args.raw_config is None else args.raw_config
    (args.out / "config.json").write_text(text)
    write_weights(args.out, listed, args.shard_bytes or shard_bytes)
    files = sorted(args.out.glob("*.safetensors"))
    if args.delete_shard is not None:
        files.pop(args.delete_shard - 1).unlink()
    if args.overlap or args.header_length is not None or args.truncate is not None:
        break_file(files[0], args)


if __name__ == "__main__":
    main()
