"""Writes the held-out sequences of a calibration as a list of ids: held_out_ids.py CALIBRATION OUT.json. Needs numpy."""
import json
import sys

import numpy as np

from compare_calibrations import read

_, tensors = read(sys.argv[1])
pieces = np.split(tensors["text.ids"], np.cumsum(tensors["text.lengths"])[:-1])
json.dump([piece.tolist() for piece, held in zip(pieces, tensors["text.held_out"]) if held], open(sys.argv[2], "w"))
