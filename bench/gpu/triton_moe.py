"""A fused MoE layer in Triton, as a peer: the algorithm that serving engines use, written anew and tuned over their space.

Five kernels after the router's product: choice of experts (a program per token); lists of every expert's choices (a program
per expert, which needs no sort); gate and up with the activation, and down times the weight of the choice, both over blocks
of BM rows of one expert; the sum of a token's choices. Blocks of rows are found from the counts on the device, so the grid
is static and the whole can be captured in a graph.
"""

import os

import torch
import triton
import triton.language as tl


@triton.jit
def choose(logits, ids, weights, E: tl.constexpr, WIDE: tl.constexpr, K: tl.constexpr, SLOTS: tl.constexpr):
    """Softmax, the K largest, weights that add up to 1; ties to the lower index."""
    token, lanes, slots = tl.program_id(0), tl.arange(0, WIDE), tl.arange(0, SLOTS)
    score = tl.load(logits + token * E + lanes, lanes < E, float("-inf")).to(tl.float32)
    left = tl.exp(score - tl.max(score, 0))
    chosen, values = tl.zeros((SLOTS,), tl.int32), tl.zeros((SLOTS,), tl.float32)
    for k in tl.static_range(K):
        best = tl.argmax(left, 0).to(tl.int32)
        chosen = tl.where(slots == k, best, chosen)
        values = tl.where(slots == k, tl.max(left, 0), values)
        left = tl.where(lanes == best, -1.0, left)
    tl.store(ids + token * K + slots, chosen, slots < K)
    tl.store(weights + token * K + slots, values / tl.sum(values, 0), slots < K)


@triton.jit
def list_choices(ids, lists, counts, choices, BLOCK: tl.constexpr):
    """The choices of one expert, in order, and how many they are."""
    expert = tl.program_id(0)
    found = 0
    for begin in range(0, choices, BLOCK):
        at = begin + tl.arange(0, BLOCK)
        mine = (tl.load(ids + at, at < choices, -1) == expert).to(tl.int32)
        place = found + tl.cumsum(mine, 0) - mine
        tl.store(lists + expert * choices + place, at, mine != 0)
        found += tl.sum(mine, 0)
    tl.store(counts + expert, found)


@triton.jit
def block_of(pid, counts, N, E: tl.constexpr, WIDE: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, GROUP: tl.constexpr,
             choices):
    """(expert, its first row, its rows, first column) of a program; expert E for one that has nothing to do."""
    columns, blocks = tl.cdiv(N, BN), choices // BM + tl.minimum(choices, E)
    group = pid // (GROUP * columns)
    size = tl.minimum(blocks - group * GROUP, GROUP)
    row = group * GROUP + pid % (GROUP * columns) % size
    column = pid % (GROUP * columns) // size
    lanes = tl.arange(0, WIDE)
    rows = tl.load(counts + lanes, lanes < E, 0)
    ends = tl.cumsum(tl.cdiv(rows, BM), 0)
    expert = tl.sum((ends <= row).to(tl.int32), 0)
    mine = lanes == expert
    own = tl.sum(tl.where(mine, rows, 0), 0)
    begin = tl.sum(tl.where(mine, ends - tl.cdiv(rows, BM), 0), 0)
    expert = tl.where(own > 0, tl.minimum(expert, E), E)
    return expert, (row - begin) * BM, own, column * BN


def space():
    """What engines tune over, less what does not fit together."""
    found = []
    for bm, bn, bk, group, warps, stages in (
            (16, 32, 256, 1, 4, 4), (16, 64, 128, 1, 4, 4), (16, 64, 256, 1, 4, 3), (16, 128, 64, 1, 4, 5), (16, 128, 128, 1, 4, 4),
            (32, 64, 128, 1, 4, 4), (32, 128, 64, 1, 4, 4), (32, 128, 128, 8, 8, 3), (64, 64, 64, 8, 4, 4), (64, 128, 64, 8, 4, 4),
            (64, 128, 64, 16, 8, 4), (64, 256, 64, 16, 8, 3), (128, 128, 64, 8, 8, 3), (128, 128, 64, 16, 8, 4), (128, 256, 64, 16, 8, 3)):
        found.append(triton.Config({"BM": bm, "BN": bn, "BK": bk, "GROUP": group}, num_warps=warps, num_stages=stages))
    return found


def fitting(configs, named, **_):
    """Large tiles for many rows, small for few; halves the time of tuning."""
    rows = named["choices"] / max(1, min(named["E"], named["choices"]))
    kept = [config for config in configs if config.kwargs["BM"] <= max(16, 4 * rows) and config.kwargs["BM"] >= min(64, rows / 4)]
    return kept or configs[:1]


def tuned(kernel):
    # What interprets kernels on a CPU measures nothing.
    configs = space()[:1] if os.environ.get("TRITON_INTERPRET") == "1" else space()
    return triton.autotune(configs, key=["choices", "N", "K"], prune_configs_by={"early_config_prune": fitting})(kernel)


@tuned
@triton.jit
def gate_up(x, w, hidden, lists, counts, choices, N, K, E: tl.constexpr, WIDE: tl.constexpr, TOP: tl.constexpr,
            BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr):
    """hidden[choice] = silu(x[choice // TOP] gate^T) * (x[...] up^T); w holds gate over up, [E, 2N, K]."""
    expert, first, own, column = block_of(tl.program_id(0), counts, N, E, WIDE, BM, BN, GROUP, choices)
    if expert >= E:
        return
    at = first + tl.arange(0, BM)
    choice = tl.load(lists + expert * choices + at, at < own, 0).to(tl.int64)
    n, k = column + tl.arange(0, BN), tl.arange(0, BK)
    a = x + (choice // TOP)[:, None] * K + k[None, :]
    b = w + expert.to(tl.int64) * 2 * N * K + n[None, :].to(tl.int64) * K + k[:, None]
    gate, up = tl.zeros((BM, BN), tl.float32), tl.zeros((BM, BN), tl.float32)
    for begin in range(0, K, BK):
        inside = begin + k < K
        rows = tl.load(a + begin, (at < own)[:, None] & inside[None, :], 0.0)
        mask = (n < N)[None, :] & inside[:, None]
        gate = tl.dot(rows, tl.load(b + begin, mask, 0.0), gate)
        up = tl.dot(rows, tl.load(b + begin + N * K, mask, 0.0), up)
    value = gate / (1 + tl.exp(-gate)) * up
    tl.store(hidden + choice[:, None] * N + n[None, :], value.to(hidden.dtype.element_ty), (at < own)[:, None] & (n < N)[None, :])


@tuned
@triton.jit
def down(hidden, w, weights, y, lists, counts, choices, N, K, E: tl.constexpr, WIDE: tl.constexpr,
         BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr):
    """y[choice] = weights[choice] * hidden[choice] w^T; w [E, N, K]."""
    expert, first, own, column = block_of(tl.program_id(0), counts, N, E, WIDE, BM, BN, GROUP, choices)
    if expert >= E:
        return
    at = first + tl.arange(0, BM)
    choice = tl.load(lists + expert * choices + at, at < own, 0).to(tl.int64)
    n, k = column + tl.arange(0, BN), tl.arange(0, BK)
    a = hidden + choice[:, None] * K + k[None, :]
    b = w + expert.to(tl.int64) * N * K + n[None, :].to(tl.int64) * K + k[:, None]
    sums = tl.zeros((BM, BN), tl.float32)
    for begin in range(0, K, BK):
        inside = begin + k < K
        rows = tl.load(a + begin, (at < own)[:, None] & inside[None, :], 0.0)
        sums = tl.dot(rows, tl.load(b + begin, (n < N)[None, :] & inside[:, None], 0.0), sums)
    sums *= tl.load(weights + choice, at < own, 0.0)[:, None]
    tl.store(y + choice[:, None] * N + n[None, :], sums.to(y.dtype.element_ty), (at < own)[:, None] & (n < N)[None, :])


@triton.jit
def add_up(y, out, H, TOP: tl.constexpr, BLOCK: tl.constexpr):
    token, at = tl.program_id(0).to(tl.int64), tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), tl.float32)
    for k in tl.static_range(TOP):
        total += tl.load(y + (token * TOP + k) * H + at, at < H, 0.0).to(tl.float32)
    tl.store(out + token * H + at, total.to(out.dtype.element_ty), at < H)


def layer(weights, x):
    """The layer of peers.py."""
    tokens, hidden = x.shape
    experts, top_k, width = weights.router.shape[0], weights.top_k, weights.down.shape[2]
    choices, wide = tokens * top_k, triton.next_power_of_2(experts)

    def empty(*dims, dtype=x.dtype):
        return torch.empty(*dims, dtype=dtype, device=x.device)

    ids, shares = empty(choices, dtype=torch.int32), empty(choices, dtype=torch.float32)
    lists, counts = empty(experts, choices, dtype=torch.int32), empty(experts, dtype=torch.int32)
    middle, rows, out = empty(choices, width), empty(choices, hidden), empty(tokens, hidden)
    choose[(tokens,)](x @ weights.router.T, ids, shares, experts, wide, top_k, triton.next_power_of_2(top_k), num_warps=1)
    list_choices[(experts,)](ids, lists, counts, choices, BLOCK=min(1024, triton.next_power_of_2(choices)))

    def grid(n):
        # Of every expert with choices one block of rows may be not full; block_of counts the same.
        return lambda meta: ((choices // meta["BM"] + min(experts, choices)) * triton.cdiv(n, meta["BN"]),)

    gate_up[grid(width)](x, weights.up, middle, lists, counts, choices, width, hidden, experts, wide, top_k)
    down[grid(hidden)](middle, weights.down, shares, rows, lists, counts, choices, hidden, width, experts, wide)
    add_up[(tokens, triton.cdiv(hidden, 1024))](rows, out, hidden, top_k, 1024)
    return out
