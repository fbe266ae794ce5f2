#!/usr/bin/env python3
"""The peers of bench/gpu.sh: the MoE layer in PyTorch, two ways, and with a Triton kernel of our own (triton_moe.py), and
the product of cuBLAS. Prints one JSON object; a peer that is not here ends with the reason on stderr.

    peers.py gemm --size 8192
    peers.py grouped_mm|batched_mm|triton --hidden H --width I --experts E --top-k K --tokens T --layers L

A layer reads x [T, H] and gives y [T, H]: router, choice, gate and up, activation, down, weighted sum, all in bf16 with
softmax in f32. L layers with weights of their own run in turn, so that weights come out of memory; the time is of one of
them, from a CUDA graph where it can be captured, median of 50. The result is compared with plain loops in f32 first.
With --device cpu (the dry run) nothing is timed, and Triton interprets its kernels.
"""

import argparse
import json
import os
import statistics
import sys

try:
    import torch
    import torch.nn.functional as F
except ImportError as problem:
    sys.exit(f"no PyTorch: {problem}")


class Layer:
    """Weights of one layer: router [E, H], gate and up [E, 2I, H] (gate first), down [E, H, I]."""

    def __init__(self, args, generator, dtype):
        def random(*dims):
            return (torch.randn(*dims, generator=generator, device=args.device, dtype=torch.float32) * dims[-1] ** -0.5).to(dtype)

        self.top_k = args.top_k
        self.router = random(args.experts, args.hidden)
        # One expert at a time: a whole layer in f32 is twice as large.
        self.up = torch.stack([random(2 * args.width, args.hidden) for _ in range(args.experts)])
        self.down = torch.stack([random(args.hidden, args.width) for _ in range(args.experts)])


def route(layer, x):
    scores = torch.softmax(x @ layer.router.T, dim=-1, dtype=torch.float32)
    weights, ids = torch.topk(scores, layer.top_k, dim=-1)
    return weights / weights.sum(-1, keepdim=True), ids


def activate(both):
    gate, up = both.chunk(2, dim=-1)
    return F.silu(gate) * up


def reference(layer, x):
    """Loops over experts in f32."""
    weights, ids = route(layer, x)
    y = torch.zeros_like(x, dtype=torch.float32)
    for expert in range(layer.router.shape[0]):
        token, slot = (ids == expert).nonzero(as_tuple=True)
        if len(token):
            hidden = activate(x[token].float() @ layer.up[expert].float().T)
            y.index_add_(0, token, hidden @ layer.down[expert].float().T * weights[token, slot, None])
    return y


def grouped_mm(layer, x):
    """Rows in the order of their experts, and PyTorch's grouped product."""
    product = getattr(F, "grouped_mm", None) or torch._grouped_mm
    weights, ids = route(layer, x)
    flat = ids.reshape(-1)
    order = torch.argsort(flat, stable=True)
    experts = layer.router.shape[0]
    counts = torch.zeros(experts, dtype=torch.int32, device=x.device).scatter_add_(0, flat, torch.ones_like(flat, dtype=torch.int32))
    ends = torch.cumsum(counts, 0, dtype=torch.int32)
    rows = x[order // layer.top_k]
    hidden = activate(product(rows, layer.up.transpose(1, 2), offs=ends))
    result = product(hidden, layer.down.transpose(1, 2), offs=ends)
    back = torch.empty_like(result).index_copy_(0, order, result)
    return (back.view(*ids.shape, -1) * weights[..., None]).sum(1).to(x.dtype)


def batched_mm(layer, x):
    """The weights of every choice side by side, and batched products; for few tokens, compiled, which leaves the copy out."""
    weights, ids = route(layer, x)
    flat = ids.reshape(-1)
    rows = x.repeat_interleave(layer.top_k, 0)
    hidden = activate(torch.bmm(layer.up[flat], rows[..., None]).squeeze(-1))
    result = torch.bmm(layer.down[flat], hidden[..., None]).squeeze(-1)
    return (result.view(*ids.shape, -1) * weights[..., None]).sum(1).to(x.dtype)


def triton(layer, x):
    if x.device.type == "cpu":
        os.environ["TRITON_INTERPRET"] = "1"
    try:
        import triton_moe
    except ImportError as problem:
        sys.exit(f"no Triton: {problem}")
    return triton_moe.layer(layer, x)


def check(got, wanted):
    """bf16 rounds x, the hidden row and every product: some 2^-8 of typical values each. A choice may fall otherwise where
    two scores are as close, so a few rows may be further off."""
    error = (got.float() - wanted).norm(dim=-1) / wanted.norm(dim=-1)
    worst = error.sort().values
    if not worst[(len(worst) - 1) * 9 // 10] < 2e-2 or not bool(torch.isfinite(got).all()):
        sys.exit(f"wrong result: relative error of rows, median {worst[len(worst) // 2]:.3g}, largest {worst[-1]:.3g}")


def timed(run, layers):
    """Microseconds of a layer, and how it ran."""
    for _ in range(3):
        run()
    torch.cuda.synchronize()
    how = "CUDA graph"
    try:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            run()
        call = graph.replay
    except RuntimeError:
        torch.cuda.synchronize()
        call, how = run, "no graph"
    times = []
    for i in range(55):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        call()
        end.record()
        torch.cuda.synchronize()
        if i >= 5:
            times.append(1e3 * begin.elapsed_time(end) / layers)
    return {"us": statistics.median(times), "least_us": min(times), "most_us": max(times), "how": how}


def measure_layer(args, function):
    needed = args.tokens * args.top_k * 3 * args.hidden * args.width * 2
    if function is batched_mm and needed > 16 << 30:
        sys.exit(f"it copies {needed / 2**30:.0f} GiB of weights for {args.tokens} tokens")
    generator = torch.Generator(device=args.device).manual_seed(1)
    # Triton's interpreter has no products of bf16.
    dtype = torch.float32 if function is triton and args.device == "cpu" else torch.bfloat16
    layers = [Layer(args, generator, dtype) for _ in range(args.layers)]
    x = torch.randn(args.tokens, args.hidden, generator=generator, device=args.device).to(dtype)
    call = function
    if function is batched_mm and args.device == "cuda":
        call = torch.compile(function, mode="max-autotune-no-cudagraphs", dynamic=False)
    sample = min(args.tokens, 256)
    check(call(layers[0], x)[:sample], reference(layers[0], x[:sample]))
    result = {"active": statistics.mean(len(route(layer, x)[1].unique()) for layer in layers)}
    if args.device == "cuda":
        result.update(timed(lambda: [call(layer, x) for layer in layers], len(layers)))
    else:
        result.update(us=0, how="not timed")
    return {**result, "torch": torch.__version__}


def measure_product(args):
    if args.device != "cuda":
        return {"torch": torch.__version__}
    a, b = (torch.randn(args.size, args.size, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    times = timed(lambda: torch.mm(a, b.T), 1)
    return {**times, "flops": 2 * args.size**3 / (1e-6 * times["us"]), "torch": torch.__version__}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", choices=["gemm", "grouped_mm", "batched_mm", "triton"])
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    for option, value in (("size", 8192), ("hidden", 2048), ("width", 768), ("experts", 128), ("top-k", 8), ("tokens", 64), ("layers", 4)):
        parser.add_argument(f"--{option}", type=int, default=value)
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        sys.exit("PyTorch sees no GPU")
    with torch.inference_mode():
        result = measure_product(args) if args.peer == "gemm" else measure_layer(args, globals()[args.peer])
    print(json.dumps(result))


if __name__ == "__main__":
    main()
