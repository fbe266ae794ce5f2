"""How logits are judged: the bounds of the golden tests and nothing else. numpy only.

f32: max |delta| <= max(2e-4, 1e-5 * max |logit|), and the same winner wherever the reference's winner is clear, that
is, ahead of the runner-up by more than twice that bound. bf16: mean KL(reference || ours) over the rows <= 1e-3 nats.
Missing rows, NaN and Inf fail before any number is looked at.
"""

import numpy as np

F32_ABSOLUTE, F32_RELATIVE, BF16_KL = 2e-4, 1e-5, 1e-3


class Mismatch(Exception):
    """The logits are wrong; the message says where and by how much."""


def _same_form(reference, logits):
    if logits.dtype != np.float32:
        raise Mismatch(f"logits are {logits.dtype}, expected float32")
    if logits.shape != reference.shape:
        raise Mismatch(f"logits have shape {list(logits.shape)}, expected {list(reference.shape)}")
    bad = np.argwhere(~np.isfinite(logits))
    if len(bad):
        row, column = bad[0]
        raise Mismatch(f"{len(bad)} logits are not finite; the first is {logits[row, column]} at row {row}, column {column}")


def compare_f32(reference, logits):
    """A line with the figures; raises Mismatch."""
    _same_form(reference, logits)
    reference = reference.astype(np.float64)
    delta = np.abs(logits - reference)
    bound = max(F32_ABSOLUTE, F32_RELATIVE * np.abs(reference).max())
    row, column = np.unravel_index(delta.argmax(), delta.shape)
    if not delta[row, column] <= bound:
        raise Mismatch(f"max |delta| {delta[row, column]:.3g} exceeds {bound:.3g}: at row {row}, column {column} "
                       f"{logits[row, column]:.6g}, expected {reference[row, column]:.6g}; {(delta > bound).any(1).sum()} "
                       f"of {len(delta)} rows are off")
    clear = np.full(len(reference), True)
    if reference.shape[1] > 1:
        top = np.partition(reference, -2, axis=1)[:, -2:]
        clear = top[:, 1] - top[:, 0] > 2 * bound
    wrong = np.flatnonzero(clear & (logits.argmax(1) != reference.argmax(1)))
    if len(wrong):
        row = wrong[0]
        raise Mismatch(f"another winner in {len(wrong)} rows: at row {row} token {logits[row].argmax()}, expected "
                       f"{reference[row].argmax()}")
    return f"max|d| {delta.max():.1e} <= {bound:.1e}"


def mean_kl(reference, logits):
    """Mean KL(reference || logits) over the rows, in nats, in f64."""
    def log_softmax(x):
        x = x.astype(np.float64)
        x = x - x.max(-1, keepdims=True)
        return x - np.log(np.exp(x).sum(-1, keepdims=True))
    p, q = log_softmax(reference), log_softmax(logits)
    return float((np.exp(p) * (p - q)).sum(-1).mean())


def compare_bf16(reference, logits):
    """A line with the figure; raises Mismatch."""
    _same_form(reference, logits)
    kl = mean_kl(reference, logits)
    if not kl <= BF16_KL:
        raise Mismatch(f"mean KL {kl:.3g} exceeds {BF16_KL}")
    return f"KL {kl:.1e} <= {BF16_KL:.0e}"


def compare_same(first, second, dtype):
    """Feeding the tokens in another way must not change the logits beyond rounding: the bounds, with ours as reference."""
    return compare_f32(first, second) if dtype == "f32" else compare_bf16(first, second)
