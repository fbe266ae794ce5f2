"""Tensors outside MLIR: element types, bf16 in numpy, safetensors files.

numpy has no bf16, so a bf16 tensor is stored as uint16 and computed with as float64. Only numpy is needed.
"""

import json
import os
import struct

import numpy as np

STORAGE = {"f64": np.float64, "f32": np.float32, "f16": np.float16, "bf16": np.uint16, "i32": np.int32}
SAFETENSORS = {"f64": "F64", "f32": "F32", "f16": "F16", "bf16": "BF16", "i32": "I32"}


def bf16_bits(values):
    """float -> bf16 bits, rounded to nearest even (through f32, as hardware and torch do)."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32).astype(np.uint64)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(values), np.uint16(0x7FC0), rounded).astype(np.uint16)


def encode(values, element):
    """float64 values -> the storage array of `element`."""
    values = np.asarray(values)
    if element == "bf16":
        return bf16_bits(values)
    return np.ascontiguousarray(values, dtype=STORAGE[element])


def decode(stored, element):
    """The storage array of `element` -> float64 values (integers stay as they are)."""
    if element == "bf16":
        return (stored.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    return stored if element == "i32" else stored.astype(np.float64)


def rounded(values, element):
    """float64 values rounded to what `element` can hold."""
    return decode(encode(values, element), element)


def write_safetensors(path, tensors):
    """tensors: {name: (element, storage array)}. Written under another name and renamed."""
    header, offset, chunks = {}, 0, []
    for name in sorted(tensors):
        element, stored = tensors[name]
        data = np.ascontiguousarray(stored, dtype=STORAGE[element]).tobytes()
        header[name] = {"dtype": SAFETENSORS[element], "shape": list(stored.shape), "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
        chunks.append(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path + ".tmp", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(chunks))
    os.replace(path + ".tmp", path)


class Checkpoint:
    """The tensors of a directory with model.safetensors, or shards and their index."""

    def __init__(self, folder):
        self.entries = {}
        index = os.path.join(folder, "model.safetensors.index.json")
        names = ["model.safetensors"]
        if os.path.exists(index):
            with open(index) as file:
                names = sorted(set(json.load(file)["weight_map"].values()))
        for name in names:
            path = os.path.join(folder, name)
            with open(path, "rb") as file:
                (length,) = struct.unpack("<Q", file.read(8))
                header = json.loads(file.read(length))
            header.pop("__metadata__", None)
            for tensor, entry in header.items():
                self.entries[tensor] = (path, 8 + length, entry)

    def read(self, name):
        """(element, storage array) of one tensor."""
        path, start, entry = self.entries[name]
        element = {text: key for key, text in SAFETENSORS.items()}[entry["dtype"]]
        begin, end = entry["data_offsets"]
        with open(path, "rb") as file:
            file.seek(start + begin)
            data = file.read(end - begin)
        return element, np.frombuffer(data, dtype=STORAGE[element]).reshape(entry["shape"])

    def weight(self, source, shape):
        """The tensor of a moe.weight: a source with {} is stacked, one tensor per expert."""
        if "{}" not in source:
            return self.read(source)
        parts = [self.read(source.replace("{}", str(expert))) for expert in range(shape[0])]
        return parts[0][0], np.stack([stored for _, stored in parts])
