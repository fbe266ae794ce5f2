"""Gives a calibration measured windows of its own choice, so that what is planned from it is known.

    make_calibration.py CALIBRATION OUT FIRST:LENGTH:FORM:KL:REPAIRED[:DOMAINS]...

Any other figure of a window follows from these: errors are the roots of KL, the bound is 1.1 times the repaired KL, every
domain has that KL, or DOMAINS. Without windows the file is one of version 1.
"""

import json
import struct
import sys

source, out, *specs = sys.argv[1:]
with open(source, "rb") as file:
    raw = file.read()
size = struct.unpack("<Q", raw[:8])[0]
header, body = json.loads(raw[8 : 8 + size]), raw[8 + size :]
facts = json.loads(header.pop("__metadata__")["calibration"])
tensors = {
    name: (entry["dtype"], entry["shape"], body[slice(*entry["data_offsets"])])
    for name, entry in header.items()
    if not name.startswith("window")
}
facts["version"] = 1
if specs:
    facts["version"] = 2
    windows = [spec.split(":") for spec in specs]
    plain, repaired = [float(w[3]) for w in windows], [float(w[4]) for w in windows]
    count, domains = len(windows), len(facts["domains"])

    def figures(name, values, shape=None):
        tensors[name] = ("F64", shape or [count], struct.pack(f"<{len(values)}d", *values))

    figures("window_error", [abs(kl) ** 0.5 for kl in plain])
    figures("window_error_repaired", [abs(kl) ** 0.5 for kl in repaired])
    figures("window_kl", plain)
    figures("window_kl_repaired", repaired)
    figures("window_kl_bound", [1.1 * kl for kl in repaired])
    figures("window_kl_domains", [float(w[-1]) for w in windows for _ in range(domains)], [count, domains])
    figures("window_same_winner", [0.99] * count)
    places = [n for w in windows for n in (int(w[0]), int(w[1]), "RDP".index(w[2]))]
    tensors["windows"] = ("I32", [count, 3], struct.pack(f"<{3 * count}i", *places))
    tensors["window_repair"] = ("I32", [count], struct.pack(f"<{count}i", *[0] * count))

ordered = sorted(tensors.items(), key=lambda item: item[1][0] != "F64")
entries, offset = {"__metadata__": {"calibration": json.dumps(facts)}}, 0
for name, (dtype, shape, data) in ordered:
    entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + len(data)]}
    offset += len(data)
text = json.dumps(entries).encode()
text += b" " * (-len(text) % 8)
with open(out, "wb") as file:
    file.write(struct.pack("<Q", len(text)) + text + b"".join(data for _, (_, _, data) in ordered))
