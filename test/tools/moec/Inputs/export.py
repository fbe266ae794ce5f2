#!/usr/bin/env python3
"""Reads exported checkpoints without any of our code, and says whether they hold what they must.

    export.py hf MODEL OUT WINDOW...    OUT against the checkpoint it was made from; WINDOW: FIRST-LAST:FORM
    export.py gguf FILE OUT             a GGUF file against a directory with the same model
    export.py logits A.npy B.npy TOL    two files of moe-run logits
    export.py same A B                  two directories of the same numbers in other types
    export.py maps FILE H NAME...       writes maps [H, H] that halve their input and turn its first elements
    export.py keep OUT                  a digest of a file or of all files of a directory

Plain Python. Scaled weights are compared within two roundings of bf16, everything else byte by byte.
"""

import hashlib
import json
import pathlib
import struct
import sys

WIDTH = {"F32": 4, "BF16": 2, "F16": 2}


def read_checkpoint(directory):
    """name -> (dtype, shape, bytes), from one file or from shards."""
    directory = pathlib.Path(directory)
    index = directory / "model.safetensors.index.json"
    if index.exists():
        weight_map = json.loads(index.read_text())["weight_map"]
        files = sorted(set(weight_map.values()))
    else:
        weight_map, files = None, ["model.safetensors"]
    tensors = {}
    for file in files:
        raw = (directory / file).read_bytes()
        size = struct.unpack("<Q", raw[:8])[0]
        header = json.loads(raw[8:8 + size])
        header.pop("__metadata__", None)
        for name, entry in header.items():
            begin, end = entry["data_offsets"]
            assert weight_map is None or weight_map[name] == file, name
            assert (8 + size + begin) % WIDTH[entry["dtype"]] == 0, f"{name} is not aligned"
            assert name not in tensors, name
            tensors[name] = (entry["dtype"], entry["shape"], raw[8 + size + begin:8 + size + end])
    assert weight_map is None or set(weight_map) == set(tensors)
    return tensors


def numbers(tensor):
    dtype, _, data = tensor
    if dtype == "F32":
        return struct.unpack(f"<{len(data) // 4}f", data)
    words = struct.unpack(f"<{len(data) // 2}H", data)
    assert dtype == "BF16", dtype
    return struct.unpack(f"<{len(words)}f", struct.pack(f"<{len(words)}I", *(word << 16 for word in words)))


def rows(tensor):
    dtype, shape, data = tensor
    width = len(data) // shape[0]
    return [data[i * width:(i + 1) * width] for i in range(shape[0])]


def check_hf(model, out, windows):
    source, result = read_checkpoint(model), read_checkpoint(out)
    config = json.loads((pathlib.Path(out) / "config.json").read_text())
    count = json.loads((pathlib.Path(model) / "config.json").read_text())["num_hidden_layers"]
    plan, layer = [], 0
    while layer < count:
        window = next((w for w in windows if w[0] == layer), (layer, layer, ""))
        plan.append(window)
        layer = window[1] + 1
    expected = {"model.embed_tokens.weight", "model.norm.weight"} | ({"lm_head.weight"} & set(source))

    def same(name, old):
        assert result[name][:2] == source[old][:2] and result[name][2] == source[old][2], f"{name} is not {old}"
        expected.add(name)

    def joined_columns(name, olds, padded):
        width = sum(source[old][1][1] for old in olds)
        assert result[name][1][1] == padded(width), (name, result[name][1])
        parts = [rows(source[old]) for old in olds]
        for i, row in enumerate(rows(result[name])):
            want = b"".join(part[i] for part in parts)
            assert row[:len(want)] == want and not any(row[len(want):]), f"{name}, row {i}"
        expected.add(name)

    def joined_rows(name, olds, norms, padded):
        """Rows of every layer times its norm's scale over the last one's."""
        height = sum(source[old][1][0] for old in olds)
        assert result[name][1][0] == padded(height), (name, result[name][1])
        got, at = rows(result[name]), 0
        kept = numbers(source[norms[-1]])
        for old, norm in zip(olds, norms):
            scale = numbers(source[norm])
            for row in rows(source[old]):
                if norm == norms[-1]:
                    assert got[at] == row, f"{name}, row {at}"
                elif at % 16 == 0:  # plain Python is slow
                    for have, w, s, k in zip(numbers(("BF16", None, got[at])), numbers(("BF16", None, row)), scale, kept):
                        assert abs(have - w * s / k) <= 2**-7 * abs(w * s / k), f"{name}, row {at}"
                at += 1
        assert not any(b"".join(got[at:])), f"{name}: padding is not zero"
        expected.add(name)

    plain = lambda width: width
    to256 = lambda width: (width + 255) // 256 * 256
    padded = to256 if config["model_type"] == "nemotron-nas" else plain
    slot = 0
    for first, last, form in plan:
        members = range(first, last + 1)
        old = lambda i, name: f"model.layers.{i}.{name}.weight"
        new = lambda name: f"model.layers.{slot}.{name}.weight"
        norms = lambda name: [old(i, name) for i in members]
        if form == "D" and last > first:
            for i in members:
                for name in ("input_layernorm", "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"):
                    same(new(name), old(i, name))
                slot += 1
            slot -= 1
        elif form != "R":
            same(new("input_layernorm"), old(last, "input_layernorm"))
            for name in ("q_proj", "k_proj", "v_proj"):
                joined_rows(new("self_attn." + name), norms("self_attn." + name), norms("input_layernorm"), plain)
            joined_columns(new("self_attn.o_proj"), norms("self_attn.o_proj"), plain)
        same(new("post_attention_layernorm"), old(last, "post_attention_layernorm"))
        for name in ("gate_proj", "up_proj"):
            joined_rows(new("mlp." + name), norms("mlp." + name), norms("post_attention_layernorm"), padded)
        joined_columns(new("mlp.down_proj"), norms("mlp.down_proj"), padded)
        slot += 1
    for name in sorted(expected - {name for name in expected if ".layers." in name}):
        same(name, name)
    assert set(result) == expected, set(result) ^ expected
    assert config["num_hidden_layers"] == slot, (config["num_hidden_layers"], slot)
    assert config["rope_theta"] == config["rope_parameters"]["rope_theta"]
    head_dim = config["head_dim"]
    for i in range(slot):
        has = lambda name: f"model.layers.{i}.{name}.weight" in result
        shape = lambda name: result[f"model.layers.{i}.{name}.weight"][1]
        if config["model_type"] == "nemotron-nas":
            block = config["block_configs"][i]
            assert block["attention"]["no_op"] == (not has("self_attn.q_proj")) and block["ffn"]["no_op"] == (not has("mlp.up_proj"))
            if has("self_attn.q_proj"):
                assert shape("self_attn.k_proj")[0] == config["num_attention_heads"] // block["attention"]["n_heads_in_group"] * head_dim
            if has("mlp.up_proj"):
                width = int(2 * block["ffn"]["ffn_mult"] * config["hidden_size"] / 3)
                assert shape("mlp.up_proj")[0] == to256(width), (i, width)
        else:
            numbers_of = {**config, **config["per_layer_config"].get(str(i), {})}
            assert shape("self_attn.q_proj")[0] == numbers_of["num_attention_heads"] * head_dim
            assert shape("self_attn.k_proj")[0] == numbers_of["num_key_value_heads"] * head_dim
            assert shape("mlp.up_proj")[0] == numbers_of["intermediate_size"]
    print(f"{config['model_type']}: {slot} layers, {len(result)} tensors hold what they must")


def read_gguf(path):
    raw, at = pathlib.Path(path).read_bytes(), 0

    def take(form):
        nonlocal at
        values = struct.unpack_from("<" + form, raw, at)
        at += struct.calcsize("<" + form)
        return values[0] if len(values) == 1 else values

    def string():
        nonlocal at
        size = take("Q")
        at += size
        return raw[at - size:at].decode()

    def value(kind):
        if kind == 9:
            of, size = take("I"), take("Q")
            return [value(of) for _ in range(size)]
        return string() if kind == 8 else take({4: "I", 5: "i", 6: "f", 7: "?"}[kind])

    assert take("4s") == b"GGUF" and take("I") == 3
    tensor_count, key_count = take("Q"), take("Q")
    keys = {}
    for _ in range(key_count):
        key = string()
        assert key not in keys, key
        keys[key] = value(take("I"))
    infos = []
    for _ in range(tensor_count):
        name = string()
        dims = [take("Q") for _ in range(take("I"))]
        infos.append((name, dims[::-1], {0: "F32", 1: "F16", 30: "BF16"}[take("I")], take("Q")))
    begin, end, tensors = (at + 31) // 32 * 32, 0, {}
    for name, shape, dtype, offset in infos:
        size = WIDTH[dtype]
        for dim in shape:
            size *= dim
        assert offset % 32 == 0 and offset >= end, name
        tensors[name] = (dtype, shape, raw[begin + offset:begin + offset + size])
        end = offset + size
    assert len(raw) == begin + (end + 31) // 32 * 32, "bytes behind the last tensor"
    return keys, tensors


def trim(tensor, shape):
    """`tensor` without the zeros that pad it beyond `shape`."""
    dtype, old, data = tensor
    if len(shape) != 2 or old == shape:
        return tensor
    width = WIDTH[dtype] * shape[1]
    assert not any(any(row[width:]) for row in rows(tensor)) and not any(b"".join(rows(tensor)[shape[0]:]))
    return dtype, shape, b"".join(row[:width] for row in rows(tensor)[:shape[0]])


def check_gguf(path, directory):
    keys, tensors = read_gguf(path)
    source = read_checkpoint(directory)
    config = json.loads((pathlib.Path(directory) / "config.json").read_text())
    names = {
        "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output", "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    }
    half = config["head_dim"] // 2
    seen = set()
    for name, tensor in source.items():
        part = name.removeprefix("model.").removesuffix(".weight")
        if part.startswith("layers."):
            _, layer, part = part.split(".", 2)
            gguf = f"blk.{layer}.{names[part]}.weight"
        else:
            gguf = {"embed_tokens": "token_embd", "norm": "output_norm", "lm_head": "output"}[part] + ".weight"
        dtype, shape, data = tensors[gguf]
        tensor = trim(tensor, shape)
        assert shape == tensor[1], (gguf, shape, tensor[1])
        if len(shape) == 1:
            assert dtype == "F32" and numbers((dtype, shape, data)) == numbers(tensor), gguf
        elif part in ("self_attn.q_proj", "self_attn.k_proj"):
            got = rows(tensors[gguf])
            for i, row in enumerate(rows(tensor)):
                head, at = divmod(i, 2 * half)
                assert got[head * 2 * half + (2 * at if at < half else 2 * (at - half) + 1)] == row, (gguf, i)
        else:
            assert (dtype, data) == (tensor[0], tensor[2]), gguf
        seen.add(gguf)
    assert set(tensors) - seen <= {"rope_freqs.weight"}, set(tensors) - seen
    layers = config["num_hidden_layers"]
    width = lambda i, name: source.get(f"model.layers.{i}.{name}.weight", (None, [0]))[1][0]
    assert keys["general.architecture"] == "deci" and keys["deci.block_count"] == layers
    assert keys["deci.attention.head_count"] == [width(i, "self_attn.q_proj") // (2 * half) for i in range(layers)]
    assert keys["deci.attention.head_count_kv"] == [width(i, "self_attn.k_proj") // (2 * half) for i in range(layers)]
    for i, length in enumerate(keys["deci.feed_forward_length"]):
        assert tensors[f"blk.{i}.ffn_up.weight"][1][0] == length and (length + 255) // 256 == (width(i, "mlp.up_proj") + 255) // 256
    assert keys["deci.attention.key_length"] == keys["deci.rope.dimension_count"] == 2 * half
    assert abs(keys["deci.rope.freq_base"] / config["rope_theta"] - 1) < 1e-6
    assert keys["deci.context_length"] == config["max_position_embeddings"]
    tokenizer = json.loads((pathlib.Path(directory) / "tokenizer.json").read_text())
    tokens = keys["tokenizer.ggml.tokens"]
    assert len(tokens) == config["vocab_size"] == len(keys["tokenizer.ggml.token_type"])
    assert all(tokens[i] == token for token, i in tokenizer["model"]["vocab"].items())
    for added in tokenizer["added_tokens"]:
        assert tokens[added["id"]] == added["content"]
        assert keys["tokenizer.ggml.token_type"][added["id"]] == (3 if added["special"] else 4)
    assert keys["tokenizer.ggml.merges"] == [" ".join(m) if isinstance(m, list) else m for m in tokenizer["model"]["merges"]]
    print(f"gguf: {layers} layers, {len(tensors)} tensors, {len(keys)} keys hold what they must")
    if "rope_freqs.weight" in tensors:
        print("rope_freqs:", " ".join(f"{x:.6g}" for x in numbers(tensors["rope_freqs.weight"])))


def check_logits(first, second, tolerance):
    a, b = (pathlib.Path(path).read_bytes()[128:] for path in (first, second))
    assert len(a) == len(b) and len(a) % 4 == 0, (len(a), len(b))
    x, y = (struct.unpack(f"<{len(data) // 4}f", data) for data in (a, b))
    worst = max(abs(p - q) for p, q in zip(x, y))
    assert len(x) > 1000 and max(x) > 1 and worst <= tolerance, worst
    print(f"{len(x)} logits alike")


def keep(path):
    path, digest = pathlib.Path(path), hashlib.sha256()
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        digest.update(file.name.encode() + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def check_same(first, second):
    a, b = read_checkpoint(first), read_checkpoint(second)
    assert set(a) == set(b)
    for name in a:
        assert a[name][0] != b[name][0] and a[name][1] == b[name][1] and numbers(a[name]) == numbers(b[name]), name
    print(f"{len(a)} tensors of the same numbers")


def write_maps(path, hidden, *names):
    hidden, header, data = int(hidden), {}, b""
    for name in names:
        # Row i: half of element i, and a little of element i + 1.
        row = lambda i: [0.5 if j == i else 0.01 if j == i + 1 else 0.0 for j in range(hidden)]
        matrix = b"".join(struct.pack(f"<{hidden}f", *row(i)) for i in range(hidden))
        header[name] = {"dtype": "F32", "shape": [hidden, hidden], "data_offsets": [len(data), len(data) + len(matrix)]}
        data += matrix
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    pathlib.Path(path).write_bytes(struct.pack("<Q", len(text)) + text + data)


command, *args = sys.argv[1:]
if command == "hf":
    ranges = [window.split(":") for window in args[2:]]
    check_hf(args[0], args[1], [(*map(int, span.split("-")), form) for span, form in ranges])
elif command == "gguf":
    check_gguf(*args)
elif command == "logits":
    check_logits(args[0], args[1], float(args[2]))
elif command == "maps":
    write_maps(*args)
elif command == "same":
    check_same(*args)
else:
    print(keep(args[0]))
