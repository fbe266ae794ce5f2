"""Looks at the windows of a calibration: check_windows.py FILE LAYERS MOST FORMS [--within OTHER]. Needs numpy.

Every window is there once, in order; repair never raises KL, and where no stage is used nothing differs. With --within,
OTHER has the same figures for the same windows.
"""
import sys

import numpy as np

from compare_calibrations import read

path, layers, most, forms = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
facts, tensors = read(path)
assert facts["version"] == 2 and facts["max_window"] == most and facts["forms"] == list(forms), facts
assert facts["ridge"] == 1e-3 and facts["fitted_tokens"] > 0 and facts["judged_tokens"] > 0, facts
windows = [tuple(row) for row in tensors["windows"].tolist()]
expected = [(first, length, "RDP".index(form)) for first in range(layers) for form in forms
            for length in range(1 if form == "R" else 2, most + 1) if first + length <= layers]
assert windows == expected, windows
names = ["window_error", "window_error_repaired", "window_kl", "window_kl_repaired", "window_kl_bound", "window_same_winner"]
for name in names:
    assert tensors[name].shape == (len(windows),) and np.isfinite(tensors[name]).all() and (tensors[name] >= 0).all(), name
kl, repaired, stages = tensors["window_kl"], tensors["window_kl_repaired"], tensors["window_repair"]
assert (repaired <= kl).all() and ((stages >= 0) & (stages < 8)).all()
assert ((repaired == kl) == (stages == 0)).all()
assert (tensors["window_kl_bound"] >= repaired).all()
domains = tensors["window_kl_domains"]
assert domains.shape == (len(windows), len(facts["domains"]))
assert (domains.min(1) <= repaired).all() and (repaired <= domains.max(1)).all()
text = f"{len(windows)} windows, no repair made one worse"
if len(sys.argv) > 5:
    _, other = read(sys.argv[6])
    rows = [other["windows"].tolist().index(list(window)) for window in windows]
    for name in names + ["window_repair", "window_kl_domains"]:
        np.testing.assert_array_equal(tensors[name], other[name][rows], err_msg=name)
    text += ", all within"
print(text)
