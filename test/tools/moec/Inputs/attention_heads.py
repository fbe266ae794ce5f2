#!/usr/bin/env python3
"""Writes a model of moe IR whose layers are attention alone, one for every size of heads, and weights of zeros beside it.

    attention_heads.py OUT KEY_DIM/VALUE_DIM[/sinks]...

OUT becomes a directory with model.mlir and model.safetensors. Four query heads share two heads of the cache. Plain Python.
"""

import json
import math
import struct
import sys
from pathlib import Path

HIDDEN, VOCABULARY, HEADS, KV_HEADS = 64, 16, 4, 2


def matrix(rows, columns, element="bf16"):
    return f"tensor<{rows}x{columns}x{element}>"


def main():
    out, sizes = Path(sys.argv[1]), [size.split("/") for size in sys.argv[2:]]
    shapes = {"table": (VOCABULARY, HIDDEN), "norm": (HIDDEN,)}
    wide, narrow, scale = matrix("?", HIDDEN, "f32"), matrix("?", HIDDEN), f"tensor<{HIDDEN}xbf16>"
    body = [f"%table = moe.get_weight @table : {matrix(VOCABULARY, HIDDEN)}",
            f"%norm = moe.get_weight @norm : {scale}",
            f"%h0 = moe.embedding %tokens, %table : tensor<?xi32>, {matrix(VOCABULARY, HIDDEN)} -> {wide}"]  # fmt: skip
    states = []
    for layer, (key, value, *extra) in enumerate(sizes):
        key, value, sinks, sinks_type = int(key), int(value), "", ""
        if extra == ["sinks"]:
            shapes[f"s{layer}"] = (HEADS,)
            body.append(f"%s{layer} = moe.get_weight @s{layer} : tensor<{HEADS}xbf16>")
            sinks, sinks_type = f" sinks %s{layer}", f", tensor<{HEADS}xbf16>"
        states.append(f"moe.state @kv{layer} : !moe.kv_cache<heads = {KV_HEADS}, key_dim = {key}, value_dim = {value}, element = bf16>")
        body.append(f"%n{layer} = moe.rms_norm %h{layer}, %norm eps 1.0e-5 : {wide}, {scale} -> {narrow}")
        widths = {"q": HEADS * key, "k": KV_HEADS * key, "v": KV_HEADS * value}
        for name, width in widths.items():
            shapes[f"{name}{layer}"] = (width, HIDDEN)
            body.append(f"%w{name}{layer} = moe.get_weight @{name}{layer} : {matrix(width, HIDDEN)}")
            body.append(f"%{name}{layer} = moe.linear %n{layer}, %w{name}{layer} : {narrow}, {matrix(width, HIDDEN)} -> {matrix('?', width)}")
        made = HEADS * value
        body.append(f"%a{layer} = moe.attention %q{layer}, %k{layer}, %v{layer} at %seq, %pos, %runs{sinks} cache @kv{layer} heads {HEADS} kv_heads {KV_HEADS} scale 0.1 : "
                    + ", ".join(matrix("?", width) for width in widths.values())
                    + f", tensor<?xi32>, tensor<?xi32>, tensor<?xi32>{sinks_type} -> {matrix('?', made)}")  # fmt: skip
        shapes[f"o{layer}"] = (HIDDEN, made)
        body.append(f"%wo{layer} = moe.get_weight @o{layer} : {matrix(HIDDEN, made)}")
        body.append(f"%h{layer + 1} = moe.linear %a{layer}, %wo{layer} : {matrix('?', made)}, {matrix(HIDDEN, made)} -> {wide}")
    body.append(f"%wanted = moe.gather_rows %h{len(sizes)}, %rows : {wide}, tensor<?xi32> -> {wide}")
    body.append(f"%last = moe.rms_norm %wanted, %norm eps 1.0e-5 : {wide}, {scale} -> {narrow}")
    body.append(f"%logits = moe.linear %last, %table : {narrow}, {matrix(VOCABULARY, HIDDEN)} -> tensor<?x{VOCABULARY}xf32>")
    body.append(f"return %logits : tensor<?x{VOCABULARY}xf32>")
    weights = [f"moe.weight @{name} : tensor<{'x'.join(map(str, shape))}xbf16>" for name, shape in shapes.items()]
    arguments = ", ".join(f"%{name}: tensor<?xi32>" for name in ("tokens", "seq", "pos", "runs", "rows"))
    lines = weights + states + [f"func.func @step({arguments}) -> tensor<?x{VOCABULARY}xf32> {{", *body, "}"]
    out.mkdir()
    (out / "model.mlir").write_text("module {\n" + "\n".join(lines) + "\n}\n")

    header, at = {}, 0
    for name, shape in shapes.items():
        size = math.prod(shape) * 2
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    (out / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(at))


main()
