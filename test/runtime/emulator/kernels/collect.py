#!/usr/bin/env python3
"""Makes the collection: PTX from the .cu and .c files, when a compiler is named, and a .json beside each.

    collect.py                       the .json files: launch shape, buffers before and after
    collect.py --nvcc nvcc           the .ptx files of the .cu files too
    collect.py --clang clang-22      those of the .c files; Triton's are made by triton_kernels.py

What a kernel must give is computed here in plain Python from what it is meant to do, never by running it. Layout of the
.json files: README.md.
"""

import argparse
import json
import math
import random
import struct
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
CASES = {}


def case(grid, block, **launch):
    """Registers a function that returns (buffers, arguments) as a case named like itself."""

    def add(function):
        CASES[function.__name__] = (function, dict(grid=three(grid), block=three(block), **launch))
        return function

    return add


def three(shape):
    shape = list(shape) if isinstance(shape, (list, tuple)) else [shape]
    return shape + [1] * (3 - len(shape))


def buffer(kind, before, after=None, tolerance=0):
    """`after` None: the kernel must leave it as it is."""
    out = {"type": kind, "in": list(before)}
    if after is not None:
        out["out"] = list(after)
    if tolerance:
        out["tolerance"] = tolerance
    return out


def value(kind, number):
    return {"type": kind, "value": number}


def args(*names):
    return [{"buffer": n} if isinstance(n, str) else n for n in names]


def ints(seed, count, low, high):
    generator = random.Random(seed)
    return [generator.randint(low, high) for _ in range(count)]


def i32(v):
    v &= 0xFFFFFFFF
    return v - (1 << 32) if v >> 31 else v


def i64(v):
    v &= (1 << 64) - 1
    return v - (1 << 64) if v >> 63 else v


def half(v):
    return struct.unpack("<H", struct.pack("<e", v))[0]


def bfloat(v):
    return struct.unpack("<I", struct.pack("<f", v))[0] >> 16


def matmul(a, b, n, k, m):
    """a [n, k] times b [k, m], both flat."""
    return [sum(a[i * k + j] * b[j * m + c] for j in range(k)) for i in range(n) for c in range(m)]


@case(4, 256)
def vector_add():
    n = 1000
    a, b = ints(1, n, -99, 99), ints(2, n, -99, 99)
    buffers = dict(a=buffer("f32", a), b=buffer("f32", b), c=buffer("f32", [0] * n, [x + y for x, y in zip(a, b)]))
    return buffers, args("a", "b", "c", value("i32", n))


@case(2, 128)
def saxpy_grid_stride():
    n = 777
    x, y = ints(3, n, -50, 50), ints(4, n, -50, 50)
    buffers = dict(x=buffer("f32", x), y=buffer("f32", y, [2 * a + b for a, b in zip(x, y)]))
    return buffers, args(value("f32", 2.0), "x", "y", value("i32", n))


def transpose():
    w, h = 64, 32
    a = ints(5, w * h, 0, 1 << 20)
    out = [a[y * w + x] for x in range(w) for y in range(h)]
    return dict(a=buffer("i32", a), b=buffer("i32", [0] * (w * h), out)), args("a", "b", value("i32", w), value("i32", h))


@case([2, 1], [32, 8])
def transpose_padded():
    return transpose()


@case([2, 1], [32, 8])
def transpose_conflicts():
    return transpose()


@case(3, 128)
def histogram_shared():
    data = ints(6, 1500, 0, 255)
    bins = [0] * 64
    for v in data:
        bins[v & 63] += 1
    return dict(d=buffer("u8", data), b=buffer("u32", [0] * 64, bins)), args("d", "b", value("i32", len(data)))


def block_sums(width, blocks):
    a = ints(7, width * blocks, -1000, 1000)
    sums = [sum(a[b * width : (b + 1) * width]) for b in range(blocks)]
    return dict(a=buffer("i32", a), s=buffer("i32", [0] * blocks, sums)), args("a", "s")


@case(4, 256)
def reduce_shared():
    return block_sums(256, 4)


@case(4, 256)
def reduce_shuffle():
    return block_sums(256, 4)


@case(4, 64)
def reduce_warp_volatile():
    return block_sums(64, 4)


def running(values):
    total, out = 0, []
    for v in values:
        total += v
        out.append(total)
    return out


@case(1, 256)
def scan_block():
    a = ints(8, 256, -9, 9)
    return dict(a=buffer("i32", a), b=buffer("i32", [0] * 256, running(a))), args("a", "b")


@case(3, 96)
def divergent_collatz():
    a = ints(9, 250, 1, 3000)
    steps = []
    for v in a:
        count = 0
        while v > 1:
            v = 3 * v + 1 if v % 2 else v // 2
            count += 1
        steps.append(count)
    return dict(a=buffer("u32", a), s=buffer("u32", [0] * 250, steps)), args("a", "s", value("i32", 250))


@case(1, 64)
def recursive_fibonacci():
    f = [0, 1]
    while len(f) < 12:
        f.append(f[-1] + f[-2])
    return dict(o=buffer("i32", [0] * 64, [f[i % 12] for i in range(64)])), args("o")


@case(1, 128, dynamicShared=4 * 1000)
def dynamic_shared_reverse():
    a = ints(10, 1000, -99, 99)
    return dict(a=buffer("i32", a), b=buffer("i32", [0] * 1000, a[::-1])), args("a", "b", value("i32", 1000))


@case(1, 64)
def warp_vote_match():
    a, out = ints(11, 64, 0, 300), []
    for warp in (a[:32], a[32:]):
        ballot = sum((v & 1) << i for i, v in enumerate(warp))
        flags = (1 if max(warp) > 250 else 0) | 2 | 4
        for v in warp:
            same = sum(1 << i for i, w in enumerate(warp) if w & 7 == v & 7)
            out.append(ballot ^ same ^ 0xFFFFFFFF ^ flags)
    return dict(a=buffer("i32", a), b=buffer("u32", [0] * 64, out)), args("a", "b")


@case(1, 96)
def cooperative_groups_tiles():
    a, out = ints(12, 96, 0, 99), []
    for i, v in enumerate(a):
        warp = a[i // 32 * 32 : i // 32 * 32 + 32]
        total = sum(a[i // 8 * 8 : i // 8 * 8 + 8])
        out.append(total + (1000 * sum(w % 3 == 0 for w in warp) if v % 3 == 0 else 0))
    return dict(a=buffer("i32", a), b=buffer("i32", [0] * 96, out)), args("a", "b")


@case(8, 128)
def lookback_scan():
    a = ints(13, 1024, -9, 9)
    total = running(a)
    sums = [sum(a[t * 128 : t * 128 + 128]) for t in range(8)]
    buffers = dict(
        a=buffer("i32", a),
        out=buffer("i32", [0] * 1024, total),
        ticket=buffer("u32", [0], [8]),
        flags=buffer("u32", [0] * 8, [2] * 8),
        aggregates=buffer("i32", [0] * 8, [0] + sums[1:]),
        prefixes=buffer("i32", [0] * 8, [total[t * 128 + 127] for t in range(8)]),
    )
    return buffers, args("a", "out", "ticket", "flags", "aggregates", "prefixes")


@case(1, 32)
def wmma_f16():
    a, b = ints(14, 256, -4, 4), ints(15, 256, -4, 4)  # b: columns one after another
    columns = [b[c * 16 + k] for k in range(16) for c in range(16)]
    out = [1 + v for v in matmul(a, columns, 16, 16, 16)]
    buffers = dict(a=buffer("u16", map(half, a)), b=buffer("u16", map(half, b)), c=buffer("f32", [0] * 256, out))
    return buffers, args("a", "b", "c")


@case(1, 32)
def mma_s8():
    a, b = ints(16, 128, -128, 127), ints(17, 128, -128, 127)  # rows of A, columns of B, 16 along k
    out = [sum(a[i * 16 + k] * b[j * 16 + k] for k in range(16)) for i in range(8) for j in range(8)]
    words = lambda v: [struct.unpack("<i", struct.pack("<4b", *v[i : i + 4]))[0] for i in range(0, len(v), 4)]
    return dict(a=buffer("i32", words(a)), b=buffer("i32", words(b)), c=buffer("i32", [0] * 64, out)), args("a", "b", "c")


@case(1, 64)
def switch_table():
    a = ints(18, 64, 0, 200)
    before = ints(19, 64, 0, 9)
    branches = [
        lambda v, o: v + o, lambda v, o: v * 3, lambda v, o: v ^ 0x55, lambda v, o: v - 7 + a[0],
        lambda v, o: v << 3, lambda v, o: v // 3, lambda v, o: v % 5, lambda v, o: -v * a[1],
        lambda v, o: v | 1, lambda v, o: ~v + a[2],
    ]  # fmt: skip
    out = [branches[v & 15](v, o) if v & 15 < len(branches) else 1 for v, o in zip(a, before)]
    return dict(a=buffer("i32", a), b=buffer("i32", before, out)), args("a", "b")


@case(1, 64)
def function_pointers():
    out = [(2 * i, i * i, -i)[i % 3] for i in range(64)]
    return dict(o=buffer("i32", [0] * 64, out)), args("o")


@case(1, 64)
def virtual_calls():
    which = ints(20, 64, 0, 1)
    out = [i * i if w else i * 3 for i, w in enumerate(which)]
    return dict(o=buffer("i32", [0] * 64, out), w=buffer("i32", which)), args("o", "w")


@case(1, 64)
def local_array():
    a, out = ints(21, 64, 0, 99), []
    for t in range(64):
        values = [i * t for i in range(16)]
        for i in range(16):
            values[a[i] & 15] += i
        out.append(values[a[t] & 15])
    return dict(a=buffer("i32", a), o=buffer("i32", [0] * 64, out)), args("a", "o")


@case(1, 64)
def constant_memory():
    a = ints(22, 64, -50, 50)
    weights, extra = [1, -2, 3, -4, 5, -6, 7, -8], [10, 20, -30]
    out = [(a[i] * weights[i % 8] + 5 + extra[i % 3]) * 3 >> 2 for i in range(64)]
    options = struct.pack("<hbxxxxxd3i4x", 2, 5, 3.0, *extra).hex()
    return dict(a=buffer("i32", a), o=buffer("i32", [0] * 64, out)), args({"bytes": options}, "a", "o")


@case(4, 64, cooperative=True)
def grid_sync():
    n = 256
    squares = [i * i for i in range(n)]
    buffers = dict(
        v=buffer("i32", [0] * n, squares), o=buffer("i32", [0] * n, [squares[n - 1 - i] + squares[i] for i in range(n)])
    )
    return buffers, args("v", "o")


@case(1, 64)
def math_f64():
    a = [i / 7 for i in range(64)]
    out = [math.sqrt(v) / (v + 3) + math.exp(-v) + math.log(v + 1) + math.sin(v) for v in a]
    return dict(a=buffer("f64", a), o=buffer("f64", [0] * 64, out, 1e-13)), args("a", "o")


@case(1, 64)
def math_f32():
    a = [i / 8 for i in range(64)]
    out = [
        math.sqrt(v) / (v + 3) + math.exp(-v) + math.log(v + 1) + math.tanh(v) + math.sin(v) + v * v + 1 for v in a
    ]
    return dict(a=buffer("f32", a), o=buffer("f32", [0] * 64, out, 2e-6)), args("a", "o")


@case(1, 64)
def integer_64():
    a, out = ints(23, 65, -(1 << 62), 1 << 62), []
    u64 = lambda v: v & ((1 << 64) - 1)
    for x, y in zip(a, a[1:]):
        y |= 1
        quotient = abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1)
        wide = u64(x) * u64(y) + u64(x)
        out.append(
            i64(quotient + (x - quotient * y) + i64(wide >> 64) + bin(u64(x)).count("1") + 64 - u64(y).bit_length())
        )
    return dict(a=buffer("i64", a), o=buffer("i64", [0] * 64, out)), args("a", "o")


@case(1, 64)
def half_arithmetic():
    a, b, out = ints(24, 128, -8, 8), ints(25, 128, -8, 8), []
    for i in range(0, 128, 2):
        for j in (i, i + 1):
            v = a[j] * b[j] + a[j]
            out.append(v + b[j] if a[i] < b[i] else v - b[j])
    bits = lambda v: [half(x) for x in v]
    buffers = dict(a=buffer("u16", bits(a)), b=buffer("u16", bits(b)), o=buffer("u16", [0] * 128, bits(out)))
    return buffers, args("a", "b", "o")


@case(6, 128)
def last_block_reduce():
    a = ints(26, 768, -99, 99)
    parts = [sum(a[b * 128 : b * 128 + 128]) for b in range(6)]
    buffers = dict(
        a=buffer("i32", a), p=buffer("i32", [0] * 6, parts), c=buffer("u32", [0], [0]), o=buffer("i32", [0], [sum(a)])
    )
    return buffers, args("a", "p", "c", "o")


@case(1, 64)
def named_barriers():
    a = ints(27, 128, -99, 99)
    out = [2 * a[i // 32 * 32 + 31 - i % 32] for i in range(128)]
    return dict(a=buffer("i32", a), o=buffer("i32", [0] * 128, out)), args("a", "o")


@case(1, 256)
def bitonic_sort():
    a = ints(28, 256, -999, 999)
    return dict(a=buffer("i32", a, sorted(a))), args("a")


@case([2, 2], [16, 16])
def stencil_halo():
    n = 32
    a = ints(29, n * n, -99, 99)
    at = lambda y, x: a[y * n + x] if 0 <= y < n and 0 <= x < n else 0
    out = [
        4 * at(y, x) - at(y - 1, x) - at(y + 1, x) - at(y, x - 1) - at(y, x + 1) for y in range(n) for x in range(n)
    ]
    return dict(a=buffer("i32", a), o=buffer("i32", [0] * (n * n), out)), args("a", "o", value("i32", n))


@case([2, 2], [16, 16])
def gemm_tiled():
    n = 32
    a, b = ints(30, n * n, -9, 9), ints(31, n * n, -9, 9)
    buffers = dict(
        a=buffer("f32", a), b=buffer("f32", b), c=buffer("f32", [0] * (n * n), matmul(a, b, n, n, n))
    )
    return buffers, args("a", "b", "c", value("i32", n))


@case(2, 64)
def atomics_all():
    n = range(128)
    xor = 0
    for i in n:
        xor ^= i
    # inc wraps after 6, dec wraps from 0 to 9: 128 steps from 0
    dec = 0
    for _ in n:
        dec = 9 if dec == 0 or dec > 9 else dec - 1
    out = [sum(n), 5 - 127, 127 * 3, -256]
    bits = [0, 0xFFFFFFFF, xor, 128 % 7, dec, sum(n)]
    before = [0xFFFFFFFF, 0, 0, 0, 0, 0]
    return dict(o=buffer("i32", [0] * 4, out), b=buffer("u32", before, bits)), args("o", "b")


@case(1, 32)
def bit_operations():
    a, out, mask = ints(32, 32, 0, (1 << 32) - 1), [], 0xFFFFFFFF
    for i, v in enumerate(a):
        w = a[(i + 1) % 32]
        pair = v.to_bytes(4, "little") + w.to_bytes(4, "little")
        permuted = int.from_bytes(bytes(pair[s] for s in (0, 3, 1, 5)), "little")
        left = ((w << 32 | v) << 7 >> 32) & mask
        right = ((w << 32 | v) >> 32) & mask  # .clamp: 40 counts as 32
        r = permuted ^ left ^ right ^ int(f"{v:032b}"[::-1], 2)
        lowest = (v & -v).bit_length()
        dp4a = 5 + sum((v >> s & 255) * (w >> s & 255) for s in (0, 8, 16, 24))
        difference = sum(abs((v >> s & 255) - (w >> s & 255)) << s for s in (0, 8, 16, 24))
        r += bin(v).count("1") + 32 - w.bit_length() + lowest + abs(v - w) + 3 + (v * w >> 32) + dp4a + difference
        field = v >> 5 & 0x7FF
        out.append(r & mask & ~(0x3F << 13) | (field & 0x3F) << 13)
    return dict(a=buffer("u32", a), o=buffer("u32", [0] * 32, out)), args("a", "o")


@case(2, 32)
def spmv_csr():
    lengths = ints(33, 50, 0, 9)
    rows = [0] + running(lengths)
    columns, values, x = ints(34, rows[-1], 0, 49), ints(35, rows[-1], -9, 9), ints(36, 50, -9, 9)
    y = [sum(values[i] * x[columns[i]] for i in range(rows[r], rows[r + 1])) for r in range(50)]
    buffers = {n: buffer("i32", v) for n, v in dict(rows=rows, columns=columns, values=values, x=x).items()}
    buffers["y"] = buffer("i32", [0] * 50, y)
    return buffers, args("rows", "columns", "values", "x", "y", value("i32", 50))


@case(1, 32)
def vector_types():
    a, d, out, products = ints(37, 128, -99, 99), ints(38, 64, -99, 99), [], []
    for i in range(0, 128, 4):
        x, y, z, w = a[i : i + 4]
        out += [w, z, y + x, x]
    for i in range(0, 64, 2):
        products += [d[i + 1] - d[i], d[i] * d[i + 1]]
    buffers = dict(
        a=buffer("i32", a), o=buffer("i32", [0] * 128, out), d=buffer("f64", d), e=buffer("f64", [0] * 64, products)
    )
    return buffers, args("a", "o", "d", "e")


@case(2, 64)
def message_passing():
    data = [5 * i for i in range(64)]
    buffers = dict(
        d=buffer("i32", [0] * 64, data), f=buffer("i32", [0], [1]), o=buffer("i32", [0] * 64, data[::-1])
    )
    return buffers, args("d", "f", "o")


@case(1, 64)
def cp_async_pipeline():
    a = ints(39, 5 * 256, -99, 99)
    out = [v for t in range(5) for v in a[t * 256 : t * 256 + 256][::-1]]
    return dict(a=buffer("i32", a), o=buffer("i32", [0] * 1280, out)), args("a", "o", value("i32", 5))


@case(1, 32)
def cp_async_zfill():
    a, n = ints(40, 128, 1, 99), 77
    filled = a[:n] + [0] * (128 - n)
    return dict(a=buffer("i32", a), o=buffer("i32", [7] * 128, filled[::-1])), args("a", "o", value("i32", n))


@case(1, 32)
def ldmatrix_mma_f16():
    a, b = ints(41, 256, -4, 4), ints(42, 128, -4, 4)  # rows of A, columns of B, 16 along k
    out = [sum(a[i * 16 + k] * b[j * 16 + k] for k in range(16)) for i in range(16) for j in range(8)]
    buffers = dict(a=buffer("u16", map(half, a)), b=buffer("u16", map(half, b)), c=buffer("f32", [0] * 128, out))
    return buffers, args("a", "b", "c")


@case(1, 32)
def mma_tf32():
    a, b = ints(43, 128, -9, 9), ints(44, 64, -9, 9)
    out = matmul(a, b, 16, 8, 8)
    return dict(a=buffer("f32", a), b=buffer("f32", b), c=buffer("f32", [0] * 128, out)), args("a", "b", "c")


@case(1, 32)
def mma_f64():
    a, b = ints(45, 32, -9, 9), ints(46, 32, -9, 9)
    out = matmul(a, b, 8, 4, 8)
    return dict(a=buffer("f64", a), b=buffer("f64", b), c=buffer("f64", [0] * 64, out)), args("a", "b", "c")


@case(1, 32)
def redux_warp():
    a = ints(47, 32, 0, (1 << 32) - 1)
    every, some, odd = 0xFFFFFFFF, 0, 0
    for v in a:
        every, some, odd = every & v, some | v, odd ^ v
    r = (sum(a) & 0xFFFFFFFF) ^ min(a) ^ max(a) ^ every ^ some ^ odd ^ (min(map(i32, a)) & 0xFFFFFFFF)
    return dict(a=buffer("u32", a), o=buffer("u32", [0] * 32, [r] * 32)), args("a", "o")


@case(1, 64)
def mbarrier_phases():
    a = ints(48, 64, -9, 9)
    v = list(a)
    for _ in range(4):
        v = [v[i] + v[(i + 1) % 64] for i in range(64)]
    return dict(a=buffer("i32", a), o=buffer("i32", [0] * 64, v)), args("a", "o")


@case(3, 64)
def bulk_copy():
    a = ints(49, 1536, -99, 99)
    return dict(a=buffer("i32", a), o=buffer("i32", [0] * 1536, [3 * v + 1 for v in a])), args("a", "o")


@case([2, 2], 64)
def tma_tile_2d():
    w, h = 60, 30  # the last column of boxes is cut at 60, the last row at 30
    a = ints(50, w * h, 1, 99)
    at = lambda y, x: a[y * w + x] if x < w and y < h else 0
    seen = [
        at(by * 16 + i // 32, bx * 32 + i % 32) for by in range(2) for bx in range(2) for i in range(512)
    ]
    shape = lambda name: {
        "tensorMap": dict(
            buffer=name, type="s32", dims=[w, h], strides=[w * 4], box=[32, 16], elementStrides=[1, 1],
            interleave="none", swizzle="128B", l2="none", fill="zeros",
        )
    }  # fmt: skip
    buffers = dict(
        a=buffer("i32", a), o=buffer("i32", [0] * (w * h), [v + 1000 for v in a]), s=buffer("i32", [0] * 2048, seen)
    )
    return buffers, [shape("a"), shape("o"), {"buffer": "s"}]


@case(8, 64)
def cluster_exchange():
    a = ints(51, 512, -99, 99)
    out = [a[(b // 4 * 4 + (b + 1) % 4) * 64 + i] * 10 + b % 4 for b in range(8) for i in range(64)]
    return dict(a=buffer("i32", a), o=buffer("i32", [0] * 512, out)), args("a", "o")


@case(4, 32)
def st_async_remote():
    a = ints(52, 128, -99, 99)
    out = [a[(b ^ 1) * 32 + i] for b in range(4) for i in range(32)]
    return dict(a=buffer("i32", a), o=buffer("i32", [0] * 128, out)), args("a", "o")


@case(1, 128)
def wgmma_bf16():
    a, b = ints(53, 1024, -4, 4), ints(54, 128, -4, 4)
    out = [sum(a[i * 16 + k] * b[j * 16 + k] for k in range(16)) for i in range(64) for j in range(8)]
    buffers = dict(a=buffer("u16", map(bfloat, a)), b=buffer("u16", map(bfloat, b)), c=buffer("f32", [0] * 512, out))
    return buffers, args("a", "b", "c")


@case(1, 256)
def elect_setmaxnreg():
    a = ints(55, 768, -99, 99)
    out = [sum(a[t * 128 + 127 - i] * (t + 1) for t in range(6)) for i in range(128)]
    return dict(a=buffer("i32", a), o=buffer("i32", [0] * 128, out)), args("a", "o")


@case(1, 32)
def stmatrix_store():
    a = ints(56, 128, 0, 65535)  # two 8x8 matrices as fragments: lane l holds row l/4, columns 2(l%4) and the next
    out = [0] * 128
    for matrix in range(2):
        for lane in range(32):
            for j in range(2):
                row, column = lane // 4, lane % 4 * 2 + j
                out[matrix * 64 + column * 8 + row] = a[(matrix * 32 + lane) * 2 + j]
    return dict(a=buffer("u16", a), o=buffer("u16", [0] * 128, out)), args("a", "o")


@case(1, 256)
def scan_warp():
    a = ints(57, 256, -9, 9)
    return dict(a=buffer("i32", a), b=buffer("i32", [0] * 256, running(a))), args("a", "b")


@case(1, 32)
def merge_path():
    a, b = sorted(ints(58, 150, -99, 99)), sorted(ints(59, 90, -99, 99))
    buffers = dict(a=buffer("i32", a), b=buffer("i32", b), o=buffer("i32", [0] * 240, sorted(a + b)))
    return buffers, args("a", "b", "o", value("i32", 150), value("i32", 90))


@case(1, 32)
def recursive_quicksort():
    a = ints(60, 512, -99, 99)
    out = [v for t in range(32) for v in sorted(a[t * 16 : t * 16 + 16])]
    return dict(a=buffer("i32", a, out)), args("a")


@case(1, 64)
def assert_and_clock():
    a = ints(61, 64, 0, 999)
    return dict(a=buffer("i32", a), o=buffer("i32", [0] * 64, [v + 1 for v in a])), args("a", "o")


@case(1, 64)
def half_atomics():
    sums = [half(v) for _ in range(4) for v in (16, sum(range(16)))]
    return dict(s=buffer("u16", [0] * 8, sums)), args("s")


@case(1, 128, dynamicShared=4 * 15002)
def large_dynamic_shared():
    a, n = ints(62, 64, -9, 9), 15002  # not divisible by 7
    total = sum(a[i % 64] * (i * 7 % n % 5) for i in range(n))
    return dict(a=buffer("i32", a), o=buffer("i32", [0], [total])), args("a", "o", value("i32", n))


@case(1, 64)
def warp_divergent_shuffle():
    a, out = ints(63, 64, -99, 99), []
    for warp in (a[:32], a[32:]):
        v = [(w + warp[i ^ 5]) * 2 if i < 16 else w - warp[i ^ 3] for i, w in enumerate(warp)]
        out += [v[i] + v[31 - i] for i in range(32)]
    return dict(a=buffer("i32", a), o=buffer("i32", [0] * 64, out)), args("a", "o")


def bf16_words(values):
    return [bfloat(values[i]) | bfloat(values[i + 1]) << 16 for i in range(0, len(values), 2)]


@case(1, 32)
def mma_bf16():
    a, b = ints(64, 256, -4, 4), ints(65, 128, -4, 4)
    out = [1 + sum(a[i * 16 + k] * b[j * 16 + k] for k in range(16)) for i in range(16) for j in range(8)]
    buffers = dict(a=buffer("u32", bf16_words(a)), b=buffer("u32", bf16_words(b)), c=buffer("f32", [0] * 128, out))
    return buffers, args("a", "b", "c")


@case(1, 64)
def cp_async_mbarrier():
    a = ints(66, 256, -99, 99)
    return dict(a=buffer("i32", a), o=buffer("i32", [0] * 256, a[::-1])), args("a", "o")


@case(1, 64)
def red_vector():
    sums = [v for odd in (0, 1) for v in (sum(range(odd, 64, 2)), 32, -sum(range(odd, 64, 2)), 16)]
    return dict(s=buffer("f32", [0] * 8, sums)), args("s")


@case(8, 32)
def cluster_reduce():
    a = ints(67, 256, -99, 99)
    return dict(a=buffer("i32", a), o=buffer("i32", [0] * 2, [sum(a[:128]), sum(a[128:])])), args("a", "o")


def plain_map(name, kind, dims, pitch, box, swizzle="none"):
    return {
        "tensorMap": dict(
            buffer=name, type=kind, dims=dims, strides=[pitch], box=box, elementStrides=[1, 1], interleave="none",
            swizzle=swizzle, l2="none", fill="zeros",
        )
    }  # fmt: skip


@case(4, 64)
def tma_multicast():
    a = ints(68, 16 * 32, -99, 99)
    out = [a[(b // 2 * 8 + i // 16) * 32 + 16 + i % 16] + b % 2 for b in range(4) for i in range(128)]
    buffers = dict(a=buffer("i32", a), o=buffer("i32", [0] * 512, out))
    return buffers, [plain_map("a", "s32", [32, 16], 128, [16, 8]), {"buffer": "o"}]


@case(1, 128)
def tma_wgmma():
    k = 192
    a, b = ints(69, 64 * k, -4, 4), ints(70, 64 * k, -4, 4)
    out = [sum(x * y for x, y in zip(a[i * k : i * k + k], b[j * k : j * k + k])) for i in range(64) for j in range(64)]
    buffers = dict(a=buffer("u16", map(bfloat, a)), b=buffer("u16", map(bfloat, b)), c=buffer("f32", [0] * 4096, out))
    maps = [plain_map(name, "bf16", [k, 64], 2 * k, [64, 64], "128B") for name in ("a", "b")]
    return buffers, maps + [{"buffer": "c"}, value("i32", 3)]


@case(1, 128)
def wgmma_registers():
    a, b = ints(71, 1024, -4, 4), ints(72, 128, -4, 4)
    product = [sum(a[i * 16 + k] * b[j * 16 + k] for k in range(16)) for i in range(64) for j in range(8)]
    buffers = dict(
        a=buffer("u32", bf16_words(a)),
        b=buffer("u16", map(bfloat, b)),
        c=buffer("f32", [0] * 512, [2 * v + 1 - v for v in product]),
    )
    return buffers, args("a", "b", "c")


@case(1, 128)
def llvm_dot():
    a, b = ints(73, 500, -9, 9), ints(74, 500, -9, 9)
    total = sum(x * y for x, y in zip(a, b))
    buffers = dict(a=buffer("f32", a), b=buffer("f32", b), o=buffer("f32", [0], [total]))
    return buffers, args("a", "b", "o", value("i32", 500))


@case(1, 64)
def llvm_calls():
    a, out, p = ints(75, 64, 0, 120), [], (40, 7_000_000_001)
    for i, v in enumerate(a):
        q = (i32(p[1]), p[0] + v, i32(v << 24) >> 24)
        rest = v * 3 if i & 1 else v + 1
        out.append([v.bit_length(), q[0], q[1], q[2], v ^ 77, v * v, rest, rest][v & 7])
    pair = struct.pack("<i4xq5b3x", p[0], p[1], 9, 9, 9, 9, 9).hex()
    return dict(a=buffer("i32", a), o=buffer("i32", [0] * 64, out)), args({"bytes": pair}, "a", "o")


@case(1, 64)
def llvm_f16_shuffle():
    a, out = ints(76, 64, 0, 9), []
    for warp in (a[:32], a[32:]):
        total = sum(v * v + 1 for v in warp)
        odd = sum((v & 1) << i for i, v in enumerate(warp))
        out += [total + bin(odd).count("1") + 32 - (odd | 1).bit_length()] * 32
    return dict(a=buffer("u16", map(half, a)), o=buffer("f32", [0] * 64, out)), args("a", "o")


def triton_args(*own):
    """Triton appends two pointers to scratch memory, unused here."""
    return args(*own, value("i64", 0), value("i64", 0))


@case(4, 128, dynamicShared=16, source="triton_kernels.py", target="sm_75")
def triton_softmax():
    n = 200
    a, out = [v / 16 for v in ints(77, 4 * n, -64, 64)], []
    for r in range(4):
        e = [math.exp(v) for v in a[r * n : r * n + n]]
        out += [v / sum(e) for v in e]
    return dict(x=buffer("f32", a), y=buffer("f32", [0] * (4 * n), out, 1e-6)), triton_args("x", "y", value("i32", n))


def triton_matmul(m, n, k):
    a, b = ints(78, m * k, -4, 4), ints(79, k * n, -4, 4)
    buffers = dict(
        a=buffer("u16", map(bfloat, a)),
        b=buffer("u16", map(bfloat, b)),
        c=buffer("f32", [0] * (m * n), matmul(a, b, m, k, n)),
    )
    return buffers, triton_args("a", "b", "c", value("i32", m), value("i32", n), value("i32", k))


@case([2, 2], 128, dynamicShared=4096, source="triton_kernels.py", target="sm_80")
def triton_matmul_sm80():
    return triton_matmul(40, 50, 70)


@case([2, 1], 128, dynamicShared=16384, source="triton_kernels.py", target="sm_90a")
def triton_matmul_sm90():
    return triton_matmul(70, 60, 130)


@case(1, 128, dynamicShared=4096, source="triton_kernels.py", target="sm_80")
def triton_scan_atomics():
    a, n, bins = ints(80, 400, 0, 99), 400, [0] * 8
    for v in a:
        bins[v & 7] += 1
    buffers = dict(x=buffer("i32", a), y=buffer("i32", [0] * n, running(a)), b=buffer("i32", [0] * 8, bins))
    return buffers, triton_args("x", "y", "b", value("i32", n))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nvcc", help="compile the .cu files with this nvcc (13.0 made those that are here)")
    parser.add_argument("--clang", help="compile the .c files with this clang (22.1 made those that are here)")
    options = parser.parse_args()
    for name, (function, launch) in sorted(CASES.items()):
        whole = dict(kernel=name, ptx=f"{name}.ptx", source=launch.get("source"), target=launch.get("target"))
        if not whole["source"]:
            source = HERE / f"{name}.cu"
            source = source if source.exists() else HERE / f"{name}.c"
            whole["source"] = source.name
            whole["target"] = source.read_text().split("Target ")[1].split(".")[0]
            compile_source(options, source, whole["target"], HERE / f"{name}.ptx")
        buffers, arguments = function()
        whole.update(launch, source=whole["source"], target=whole["target"], buffers=buffers, arguments=arguments)
        (HERE / f"{name}.json").write_text(json.dumps(whole) + "\n")
    missing = {p.stem for suffix in ("cu", "c", "ptx") for p in HERE.glob(f"*.{suffix}")} ^ set(CASES)
    if missing:
        raise SystemExit(f"a source without a case, or a case without its source: {', '.join(sorted(missing))}")


def compile_source(options, source, target, out):
    command = None
    if source.suffix == ".cu" and options.nvcc:
        command = [options.nvcc, "-std=c++17", f"-arch={target}", "-ptx"]
    if source.suffix == ".c" and options.clang:
        command = [options.clang, "--target=nvptx64", f"-march={target}", "-O2", "-S"]
        command += ["-Xclang", "-target-feature", "-Xclang", "+ptx80"]
    if command:
        subprocess.run([*command, str(source), "-o", str(out)], check=True)


if __name__ == "__main__":
    main()
