"""Copies a checkpoint with its bf16 tensors as f32: to_f32.py FROM TO. Needs numpy.

So that weights that a plan multiplies are not rounded to bf16 again, and two ways to compute them can be compared.
"""
import json
import os
import shutil
import sys

import numpy as np

source, target = sys.argv[1:]
os.makedirs(target)
for name in os.listdir(source):
    if name.endswith(".json"):
        shutil.copy(os.path.join(source, name), target)
data = open(os.path.join(source, "model.safetensors"), "rb").read()
length = int.from_bytes(data[:8], "little")
header = json.loads(data[8:8 + length])
header.pop("__metadata__", None)
parts, end = [], 0
for tensor in header.values():
    assert tensor["dtype"] == "BF16", tensor
    begin, stop = tensor["data_offsets"]
    bits = np.frombuffer(data, np.uint16, offset=8 + length + begin, count=(stop - begin) // 2).astype(np.uint32) << 16
    parts.append(bits.tobytes())
    tensor.update(dtype="F32", data_offsets=[end, end + len(parts[-1])])
    end += len(parts[-1])
text = json.dumps(header).encode()
text += b" " * (-len(text) % 8)
with open(os.path.join(target, "model.safetensors"), "wb") as file:
    file.write(len(text).to_bytes(8, "little") + text + b"".join(parts))
