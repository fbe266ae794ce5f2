"""Copies a checkpoint with what layer l adds to the stream multiplied by FACTOR^l: every layer drowns what was there before
it, so that the next one reads little else, and nothing can be fused.

    make_dependent.py CHECKPOINT OUT FACTOR
"""

import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "golden"))
import safetensors_io  # noqa: E402

source, out, factor = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
shutil.copytree(source, out)
tensors = safetensors_io.read(source / "model.safetensors")
for name, tensor in tensors.items():
    if name.endswith(("o_proj.weight", "down_proj.weight")):
        values = safetensors_io.from_storage(tensor) * factor ** int(name.split(".")[2])
        tensors[name] = safetensors_io.to_storage(values, {"BF16": "bfloat16", "F32": "float32"}[tensor[0]])
safetensors_io.write(out / "model.safetensors", tensors)
