#!/usr/bin/env python3
"""Kernels of ours in Triton, and their PTX (Triton compiles without a GPU).

    triton_kernels.py        writes triton_*.ptx here; Triton 3.9 made those that are here
"""

import os
from pathlib import Path

os.environ["TRITON_DISABLE_LINE_INFO"] = "1"  # names folders of the machine

import triton  # noqa: E402
import triton.language as tl  # noqa: E402
from triton.backends.compiler import GPUTarget  # noqa: E402


@triton.jit
def triton_softmax(x, y, n, B: tl.constexpr):
    row, at = tl.program_id(0), tl.arange(0, B)
    v = tl.load(x + row * n + at, mask=at < n, other=-float("inf"))
    e = tl.exp(v - tl.max(v, 0))
    tl.store(y + row * n + at, e / tl.sum(e, 0), mask=at < n)


@triton.jit
def triton_matmul(a, b, c, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    rm = tl.program_id(0) * BM + tl.arange(0, BM)
    rn = tl.program_id(1) * BN + tl.arange(0, BN)
    rk = tl.arange(0, BK)
    pa, pb = a + rm[:, None] * K + rk[None, :], b + rk[:, None] * N + rn[None, :]
    total = tl.zeros((BM, BN), tl.float32)
    for k in range(0, K, BK):
        left, right = (rm[:, None] < M) & (rk[None, :] < K - k), (rk[:, None] < K - k) & (rn[None, :] < N)
        total = tl.dot(tl.load(pa, mask=left, other=0), tl.load(pb, mask=right, other=0), total)
        pa += BK
        pb += BK * N
    tl.store(c + rm[:, None] * N + rn[None, :], total, mask=(rm[:, None] < M) & (rn[None, :] < N))


@triton.jit
def triton_scan_atomics(x, y, bins, n, B: tl.constexpr):
    at = tl.arange(0, B)
    v = tl.load(x + at, mask=at < n, other=0)
    tl.store(y + at, tl.cumsum(v, 0), mask=at < n)
    tl.atomic_add(bins + (v & 7), 1, mask=at < n)


def write(name, function, target, types, constants, warps=4):
    signature = {k: types.get(k, "constexpr") for k in function.arg_names}
    source = triton.compiler.ASTSource(
        function,
        signature,
        constexprs={(function.arg_names.index(k),): v for k, v in constants.items()},
        attrs={(function.arg_names.index(k),): [["tt.divisibility", 16]] for k, t in types.items() if t[0] == "*"},
    )
    done = triton.compile(source, target=GPUTarget("cuda", target, 32), options=dict(num_warps=warps))
    text = done.asm["ptx"].replace(function.__name__, name)
    (Path(__file__).parent / f"{name}.ptx").write_text(text)
    print(f"{name}: dynamicShared={done.metadata.shared}, block={32 * warps}")


if __name__ == "__main__":
    write("triton_softmax", triton_softmax, 75, dict(x="*fp32", y="*fp32", n="i32"), dict(B=256))
    sizes = dict(M="i32", N="i32", K="i32")
    write("triton_matmul_sm80", triton_matmul, 80, dict(a="*bf16", b="*bf16", c="*fp32", **sizes), dict(BM=32, BN=32, BK=32))
    write("triton_matmul_sm90", triton_matmul, 90, dict(a="*bf16", b="*bf16", c="*fp32", **sizes), dict(BM=64, BN=64, BK=64))
    integers = dict(x="*i32", y="*i32", bins="*i32", n="i32")
    write("triton_scan_atomics", triton_scan_atomics, 80, integers, dict(B=512))
