"""What bench/gpu.sh measures: the bundled models, and layers of published shapes with random weights, in two sizes.

`full` is for a card, `small` for the dry run on the emulator. A model of random weights is a preset of
test/tools/make_checkpoint.py with some values replaced; it has a few layers, so that a step reads more than the
card's cache holds, and a small vocabulary, so that nearly all of a step is layers.
"""

BUNDLED = {"full": ["tiny-llama", "tiny-mixtral"], "small": ["tiny-mixtral"]}

# name: (preset, values of config.json, tokens of a step that are measured, first and last kernel of the piece that is measured)
LAYERS = {
    "full": {
        "mixtral": ("mixtral-8x7b", {"num_hidden_layers": 2, "vocab_size": 1024}, [1, 8, 64, 512, 4096]),
        "qwen3": ("qwen3-30b-a3b-sizes", {"num_hidden_layers": 4, "vocab_size": 1024}, [1, 8, 64, 512, 4096]),
    },
    "small": {
        "mixtral": ("tiny-mixtral", {"num_hidden_layers": 1}, [1, 20]),
    },
}
# Tokens of the sequence whose logits are compared with the CPU's, and how many ids the models of both layers know.
LAYER_TOKENS = {"full": 64, "small": 6}
LAYER_VOCABULARY = {"full": 1024, "small": 40}

# Slices of the recorded launches of a target, whose results are kept one by one.
KERNEL_SLICES = {"full": 24, "small": 2}

# One model, its layers fused by `counts`; a window of n FFNs is form D, which leaves the attentions as they are.
FUSION = {
    "full": ("llama-3.1-70b", {"num_hidden_layers": 8, "vocab_size": 1024, "hidden_size": 2048, "intermediate_size": 6144,
                               "num_attention_heads": 16, "num_key_value_heads": 4}, [1, 64, 2048], [2, 4, 8]),
    "small": ("tiny-llama", {"num_hidden_layers": 4}, [1], [2, 4]),
}

# A head of N x N and N tokens is a product of N^3; the layer before it is as small as may be.
GEMM = {"full": 8192, "small": 64}


def gemm_model(size):
    n = GEMM[size]
    return "tiny-llama", {"num_hidden_layers": 1, "hidden_size": n, "vocab_size": n, "intermediate_size": 64,
                          "num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 64, "max_position_embeddings": n}


def plan(layers, count):
    """The fusion plan that makes one FFN of every `count`."""
    windows = [{"first": first, "length": count, "form": "D"} for first in range(0, layers, count)]
    return {"format": "moe-fusion-plan", "version": 1, "layers": layers, "windows": windows}


# The pieces of a step (bench-gpu steps --piece): name, a word of its first kernel, one of its last, kernels before the
# first that belong to it. Of a MoE layer the router's product comes before the choice; of an FFN the norm before gate and up.
MOE_PIECE = ["moe", "route_", "combine_", "1"]
FFN_PIECE = ["ffn", "_gated", "_residual", "1"]

# Files of launches that the unit tests of the kernels record, one per target; the tests of which, in the small size.
KERNEL_TARGETS = {"sm_80": ("a100", "*"), "sm_90a": ("h100", "*GpuMatmul*")}
SMALL_KERNEL_TESTS = "*.NoTokens:*.ExactOnIntegers:*.Sort:*.PaddingAndSlots"
