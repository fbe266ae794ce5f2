#!/usr/bin/env python3
"""Writes a GGUF file from a Hugging Face directory of the Llama family, as converters for llama.cpp do it.

    make_gguf.py DIR OUT.gguf
    make_gguf.py DIR OUT.gguf --arch deci --set 'deci.expert_count=u32:8' --remove tokenizer.ggml.pre

Tensors keep their types and bytes, except that the rows of q and k of each head are put in the order that turns
neighbours. Layers may differ (`per_layer_config`, `block_configs`). Options break what they name, so that a test can
show the message. Plain Python, written from the format's specification and from nothing of ours.
"""

import argparse
import json
import pathlib
import struct

TYPES = {"F32": 0, "F16": 1, "BF16": 30, "F64": 28, "Q8_0": 8, "Q4_K": 12}
ITEM_BYTES = {"F32": 4, "F16": 2, "BF16": 2, "F64": 8}
NAMES = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
LAYER_NAMES = {
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}


def read_safetensors(folder):
    """name -> (dtype, shape, bytes), of every file."""
    tensors = {}
    for path in sorted(folder.glob("*.safetensors")):
        data = path.read_bytes()
        length = struct.unpack("<Q", data[:8])[0]
        for name, entry in json.loads(data[8:8 + length]).items():
            if name != "__metadata__":
                begin, end = (8 + length + offset for offset in entry["data_offsets"])
                tensors[name] = entry["dtype"], entry["shape"], data[begin:end]
    return tensors


def layers_of(config):
    """(heads, key heads, FFN width) of every layer; 0: it has none."""
    heads, kv = config["num_attention_heads"], config.get("num_key_value_heads")
    result = []
    for layer in range(config["num_hidden_layers"]):
        own = config.get("per_layer_config", {}).get(str(layer), {})
        if "block_configs" in config:
            block = config["block_configs"][layer]
            group, multiple = block["attention"]["n_heads_in_group"], block["ffn"]["ffn_mult"]
            width = -(-int(2 * multiple * config["hidden_size"] / 3) // 256) * 256 if multiple else 0
            result.append((heads if group else 0, heads // group if group else 0, width))
        else:
            result.append((own.get("num_attention_heads", heads), own.get("num_key_value_heads", kv or heads),
                           own.get("intermediate_size", config["intermediate_size"])))
    return result


def turn_neighbours(data, heads, head_dim):
    """The rows 0, D/2, 1, D/2 + 1, ... of every head."""
    row = len(data) // (heads * head_dim)
    half = head_dim // 2
    order = [head * head_dim + side * half + i for head in range(heads) for i in range(half) for side in range(2)]
    return b"".join(data[r * row:(r + 1) * row] for r in order)


def rename(name):
    module, kind = name.rsplit(".", 1)
    if module in NAMES:
        return f"{NAMES[module]}.{kind}"
    _, _, layer, part = module.split(".", 3)
    return f"blk.{layer}.{LAYER_NAMES[part]}.{kind}"


def text(value):
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


SCALARS = {"u32": (4, "<I", int), "i32": (5, "<i", int), "f32": (6, "<f", float), "bool": (7, "<?", lambda v: v in (True, "true")),
           "u64": (10, "<Q", int), "f64": (12, "<d", float)}


def value(kind, data):
    """`kind`: of SCALARS, "str", or "[kind]" for an array."""
    if kind.startswith("["):
        inner = kind[1:-1]
        number = 8 if inner == "str" else SCALARS[inner][0]
        return struct.pack("<IIQ", 9, number, len(data)) + b"".join(value(inner, item)[4:] for item in data)
    if kind == "str":
        return struct.pack("<I", 8) + text(data)
    number, code, convert = SCALARS[kind]
    return struct.pack("<I", number) + struct.pack(code, convert(data))


def metadata_of(folder, config, arch, layers):
    """key -> (kind, value)"""
    rope = config.get("rope_parameters") or {"rope_theta": config.get("rope_theta", 1e4)}
    head_dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    same = len(set(layers)) == 1
    columns = [list(column) for column in zip(*layers)]
    def of(column):
        return ("u32", column[0]) if same else ("[i32]", column)
    result = {
        "general.architecture": ("str", arch), f"{arch}.block_count": ("u32", len(layers)),
        f"{arch}.context_length": ("u32", config["max_position_embeddings"]),
        f"{arch}.embedding_length": ("u32", config["hidden_size"]), f"{arch}.attention.head_count": of(columns[0]),
        f"{arch}.attention.head_count_kv": of(columns[1]), f"{arch}.feed_forward_length": of(columns[2]),
        f"{arch}.attention.key_length": ("u32", head_dim), f"{arch}.attention.value_length": ("u32", head_dim),
        f"{arch}.rope.dimension_count": ("u32", head_dim), f"{arch}.rope.freq_base": ("f32", rope["rope_theta"]),
        f"{arch}.attention.layer_norm_rms_epsilon": ("f32", config["rms_norm_eps"]),
        f"{arch}.vocab_size": ("u32", config["vocab_size"]),
    }
    path = folder / "tokenizer.json"
    if path.exists():
        tokenizer = json.loads(path.read_text())
        vocab = tokenizer["model"]["vocab"]
        tokens = sorted(vocab, key=vocab.get)
        special = {token["id"] for token in tokenizer["added_tokens"] if token["special"]}
        merges = [" ".join(rule) if isinstance(rule, list) else rule for rule in tokenizer["model"]["merges"]]
        result |= {
            "tokenizer.ggml.model": ("str", "gpt2"), "tokenizer.ggml.pre": ("str", "gpt-2"),
            "tokenizer.ggml.tokens": ("[str]", tokens), "tokenizer.ggml.merges": ("[str]", merges),
            "tokenizer.ggml.token_type": ("[i32]", [3 if i in special else 1 for i in range(len(tokens))]),
            "tokenizer.ggml.bos_token_id": ("u32", config.get("bos_token_id", 0)),
            "tokenizer.ggml.eos_token_id": ("u32", config.get("eos_token_id", 0)),
            "tokenizer.ggml.add_bos_token": ("bool", False),
        }
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--arch", default="llama")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=KIND:VALUE", help="a number, a string, or [kind]:JSON")
    parser.add_argument("--remove", action="append", default=[], metavar="KEY")
    parser.add_argument("--drop", action="append", default=[], metavar="TENSOR")
    parser.add_argument("--rope-factors", metavar="JSON", help="a tensor of divisors of the frequencies")
    parser.add_argument("--type-of", action="append", default=[], metavar="TENSOR=TYPE", help="what the header says only")
    parser.add_argument("--truncate", type=int, default=0, metavar="BYTES")
    args = parser.parse_args()

    config = json.loads((args.folder / "config.json").read_text())
    layers = layers_of(config)
    metadata = metadata_of(args.folder, config, args.arch, layers)
    for item in args.set:
        key, rest = item.split("=", 1)
        kind, data = rest.split(":", 1)
        metadata[key] = kind, json.loads(data) if kind.startswith("[") else data
    for key in args.remove:
        del metadata[key]

    head_dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    tensors = {}
    for name, (dtype, shape, data) in read_safetensors(args.folder).items():
        for part, column in (("q_proj", 0), ("k_proj", 1)):
            if f"self_attn.{part}." in name:
                data = turn_neighbours(data, layers[int(name.split(".")[2])][column], head_dim)
        tensors[rename(name)] = dtype, shape, data
    if args.rope_factors:
        factors = json.loads(args.rope_factors)
        tensors["rope_freqs.weight"] = "F32", [len(factors)], struct.pack(f"<{len(factors)}f", *factors)
    for name in args.drop:
        del tensors[name]
    types = dict(item.split("=") for item in args.type_of)

    header = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    for key, (kind, data) in metadata.items():
        header += text(key) + value(kind, data)
    body = b""
    for name, (dtype, shape, data) in tensors.items():
        header += text(name) + struct.pack("<I", len(shape)) + b"".join(struct.pack("<Q", dim) for dim in reversed(shape))
        header += struct.pack("<IQ", TYPES[types.get(name, dtype)], len(body))
        body += data + b"\0" * (-len(data) % 32)
    out = header + b"\0" * (-len(header) % 32) + body
    args.out.write_bytes(out[:len(out) - args.truncate])


if __name__ == "__main__":
    main()
