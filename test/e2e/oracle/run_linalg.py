"""Runs the linalg text of a model on ids: logits of every token, as `moe-run logits` writes them.

    moec compile DIR --emit linalg -o model.linalg.mlir
    run_linalg.py model.linalg.mlir --weights DIR --ids-file IDS.json -o logits.npy [--backend native|iree] [--step N]
    run_linalg.py model.linalg.mlir --weights DIR --ids-file IDS.json -o logits.npy --flags FOLDER

IDS.json: [[ids], ...]; out: f32 [sum of lengths, V]. The sequences are slots of one batch; --step N feeds N tokens of
each per step (default: all at once). --flags runs nothing: it writes the inputs of one step over empty caches, and
FOLDER/flags.txt, with which `iree-run-module --module=MODEL.vmfb --flagfile=FOLDER/flags.txt` writes the logits.
"""

import argparse
import json
import os
import sys
import tempfile
import time

import numpy as np

from backends import BACKENDS, write_flags
from signature import bind, parse_signature, step_inputs, zero_states
from tensors import STORAGE, Checkpoint, decode


def run(run_step, checkpoint, ids, tokens_per_step=None):
    """Logits of every token of `ids`, in order."""
    states = zero_states(run_step.arguments, len(ids), max(1, *map(len, ids)), STORAGE)
    longest = max(map(len, ids))
    size = tokens_per_step or longest
    rows = {}
    for start in range(0, longest, size):
        chunk = [sequence[start:start + size] for sequence in ids]
        inputs = step_inputs(chunk, start=[start] * len(ids))
        logits, *caches = run_step(bind(run_step.arguments, inputs, states, checkpoint.weight))
        # A backend that reads raw files gives the caches flat.
        states = {name: cache.reshape(states[name].shape) for name, cache in zip(states, caches, strict=True)}
        rows.update(zip(zip(inputs[1], inputs[2]), logits))
    element = run_step.results[0][0]
    return np.stack([decode(rows[slot, position], element) for slot, sequence in enumerate(ids) for position in range(len(sequence))])


def write_step(text, checkpoint, ids, folder, output):
    """Inputs and flags of the first step over all of `ids`."""
    os.makedirs(folder, exist_ok=True)
    arguments, results = parse_signature(text)
    states = zero_states(arguments, len(ids), max(1, *map(len, ids)), STORAGE)
    arrays = bind(arguments, step_inputs(ids), states, checkpoint.weight)
    return write_flags(folder, "step", arguments, arrays, [output] + [None] * (len(results) - 1))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="linalg text with a function @step")
    parser.add_argument("--weights", required=True, help="the checkpoint directory")
    parser.add_argument("--ids-file", required=True)
    parser.add_argument("-o", "--output", required=True)
    parser.add_argument("--backend", default="native", choices=list(BACKENDS))
    parser.add_argument("--step", type=int, help="tokens of each sequence per step")
    parser.add_argument("--flags", metavar="FOLDER", help="write inputs and flags for iree-run-module instead of running")
    parser.add_argument("--expect", help=".npy of logits to compare with: max |d| <= max(2e-4, 1e-5 max |logit|), same top-1")
    options = parser.parse_args()
    with open(options.model) as file:
        text = file.read()
    with open(options.ids_file) as file:
        ids = json.load(file)
    if options.flags:
        print(write_step(text, Checkpoint(options.weights), ids, options.flags, options.output))
        return
    with tempfile.TemporaryDirectory() as folder:
        begin = time.time()
        run_step = BACKENDS[options.backend](text, folder)
        compiled = time.time()
        logits = run(run_step, Checkpoint(options.weights), ids, options.step).astype(np.float32)
        print(f"compiled in {compiled - begin:.1f} s, ran {len(logits)} tokens in {time.time() - compiled:.1f} s ({options.backend})")
    np.save(options.output + ".tmp.npy", logits)
    os.replace(options.output + ".tmp.npy", options.output)
    if options.expect:
        want = np.load(options.expect).astype(np.float32)
        if want.shape != logits.shape:
            sys.exit(f"{options.expect}: shape {want.shape}, but the model gave {logits.shape}")
        delta, bound = np.abs(logits - want).max(), max(2e-4, 1e-5 * np.abs(want).max())
        same = (logits.argmax(-1) == want.argmax(-1)).mean()
        print(f"max |d| {delta:.3g} (bound {bound:.3g}), top-1 equal {same:.4%}")
        if not delta <= bound or same < 1:
            sys.exit("the logits differ")


if __name__ == "__main__":
    main()
