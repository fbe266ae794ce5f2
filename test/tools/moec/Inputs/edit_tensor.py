"""Sets one number of a tensor of a safetensors file.

    edit_tensor.py SOURCE OUT NAME INDEX VALUE
"""

import json
import struct
import sys

source, out, name, index, value = sys.argv[1:]
with open(source, "rb") as file:
    raw = bytearray(file.read())
size = struct.unpack("<Q", raw[:8])[0]
entry = json.loads(raw[8 : 8 + size])[name]


def bfloat16(text):
    return struct.unpack("<I", struct.pack("<f", float(text)))[0] >> 16


kinds = {"I32": ("i", int), "F32": ("f", float), "F64": ("d", float), "BF16": ("H", bfloat16)}
code, convert = kinds[entry["dtype"]]
place = 8 + size + entry["data_offsets"][0] + int(index) * struct.calcsize(code)
struct.pack_into("<" + code, raw, place, convert(value))
with open(out, "wb") as file:
    file.write(raw)
