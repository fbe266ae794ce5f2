"""Writes maps that change nothing: where a fused norm has the scale of the last layer, a layer's own norm is that times
the quotient of the scales.

    make_maps.py CHECKPOINT OUT FIRST LAST [--factor F]

For the FFNs of layers FIRST to LAST: tensors maps.<layer> [H, H], the quotients (times F) on the diagonal. Layer LAST has
the identity.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "golden"))
import safetensors_io  # noqa: E402

parser = argparse.ArgumentParser()
parser.add_argument("checkpoint")
parser.add_argument("out")
parser.add_argument("first", type=int)
parser.add_argument("last", type=int)
parser.add_argument("--factor", type=float, default=1)
args = parser.parse_args()

tensors = safetensors_io.read(Path(args.checkpoint) / "model.safetensors")
name = "model.layers.{}.post_attention_layernorm.weight".format
scales = {layer: safetensors_io.from_storage(tensors[name(layer)]) for layer in range(args.first, args.last + 1)}
last = scales[args.last]
assert np.abs(last).min() > 2.0**-10, "a scale is so small that the fused norm has another"
maps = {
    f"maps.{layer}": safetensors_io.to_storage(np.diag(scale / last) * args.factor, "float32")
    for layer, scale in scales.items()
}
safetensors_io.write(args.out, maps)
