"""Reads and writes safetensors files with numpy alone, so that tests control every byte of the layout.

bf16 has no numpy type: tensors are (dtype name, shape, little-endian bytes). `unaligned` ends the header at an odd
offset, which the format allows and some writers produce. Not a validator; the reader under test is.
"""

import json
import struct

import numpy as np

_ITEM = {"F32": 4, "F16": 2, "BF16": 2, "F64": 8}


def to_storage(values, dtype):
    """float array -> (safetensors dtype, shape, bytes), rounded to nearest even."""
    values = np.ascontiguousarray(values, dtype=np.float32)
    if dtype == "float32":
        return "F32", list(values.shape), values.tobytes()
    if dtype == "float16":
        return "F16", list(values.shape), values.astype(np.float16).tobytes()
    if dtype == "bfloat16":
        bits = values.view(np.uint32).astype(np.uint64)
        return "BF16", list(values.shape), ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16).tobytes()
    raise ValueError(f"no safetensors type for {dtype}")


def from_storage(tensor):
    """(safetensors dtype, shape, bytes) -> float64 array."""
    dtype, shape, data = tensor
    if dtype == "BF16":
        values = (np.frombuffer(data, np.uint16).astype(np.uint32) << 16).view(np.float32)
    else:
        values = np.frombuffer(data, {"F32": np.float32, "F16": np.float16, "F64": np.float64}[dtype])
    return values.astype(np.float64).reshape(shape)


def write(path, tensors, unaligned=False):
    """`tensors`: name -> (dtype, shape, bytes), written in the order of the dict."""
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, (dtype, shape, data) in tensors.items():
        assert len(data) == _ITEM[dtype] * int(np.prod(shape, dtype=np.int64)), name
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    if unaligned:
        text += b" " * (1 - len(text) % 2)  # odd length: the data begin at an odd address of the mapped file
    else:
        text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(data for _, _, data in tensors.values()))


def read(path):
    """name -> (dtype, shape, bytes), in the order of the data."""
    with open(path, "rb") as file:
        raw = file.read()
    size = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8 : 8 + size])
    header.pop("__metadata__", None)
    body = raw[8 + size :]
    ordered = sorted(header.items(), key=lambda item: item[1]["data_offsets"])
    return {name: (e["dtype"], e["shape"], body[slice(*e["data_offsets"])]) for name, e in ordered}
