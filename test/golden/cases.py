"""The golden configurations: what is varied, and nothing about how a checkpoint is made.

Every case is one tiny checkpoint. The axes are those on which importers and kernels go wrong: head counts, a head
dim that is not hidden/heads, widths that no vector divides, vocabularies of odd size, tied heads, every kind of RoPE
scaling at positions where it matters, biases, sliding windows, 3 to 64 experts with K from 1 to E, storage types,
sharding, and the spellings that older versions of the libraries wrote to disk. `generate.py` turns a case into files.
"""

from dataclasses import dataclass, field


@dataclass
class Case:
    """One checkpoint. `config` goes to the configuration class of the family; the rest says how it is stored and fed."""

    name: str
    family: str
    why: str
    config: dict
    lengths: tuple = (17, 1, 5, 24)
    storage: str = "bfloat16"
    # Keys replaced in config.json after saving (None removes one): the spellings of other library versions.
    rewrite: dict = field(default_factory=dict)
    # Tensor-name suffixes stored in another type than `storage`.
    storage_of: dict = field(default_factory=dict)
    shard_bytes: int = 0
    # Leave the header at an odd length, so that no tensor is aligned.
    unaligned: bool = False
    # Write `model.layers.i.self_attn.rotary_emb.inv_freq`, as Llama-1 era checkpoints have it, and `lm_head` of a tied model.
    leftovers: bool = False
    # Name the experts as transformers 5 names its modules (mlp.experts.E.gate_proj) and not as the hub does (block_sparse_moe).
    module_names: bool = False
    # Write the experts as transformers 5 holds them: one tensor for gate and up of all experts of a layer, one for down.
    stacked: bool = False
    # Pull all routers towards expert 0 by this much, so that some experts get nearly everything and some nothing.
    skew: float = 0.0


def llama(name, why, H, I, Q, G, V, L=2, D=None, rope=None, positions=512, **kw):
    options = {k: kw.pop(k) for k in ("attention_bias", "mlp_bias", "tie_word_embeddings", "rms_norm_eps", "hidden_act") if k in kw}
    config = dict(hidden_size=H, intermediate_size=I, num_attention_heads=Q, num_key_value_heads=G, vocab_size=V,
                  num_hidden_layers=L, max_position_embeddings=positions, **options)
    config.update({"head_dim": D} if D else {})
    config["rope_parameters"] = rope or {"rope_type": "default", "rope_theta": 10000.0}
    return Case(f"llama-{name}", "llama", why, config, **kw)


def mixtral(name, why, H, I, Q, G, V, E, K, L=2, D=None, rope=None, positions=512, window=None, **kw):
    case = llama(name, why, H, I, Q, G, V, L, D, rope or {"rope_type": "default", "rope_theta": 1e6}, positions, **kw)
    case.name, case.family = f"mixtral-{name}", "mixtral"
    case.config.update(num_local_experts=E, num_experts_per_tok=K, sliding_window=window)
    return case


def mistral(name, why, H, I, Q, G, V, window, **kw):
    case = llama(name, why, H, I, Q, G, V, **kw)
    case.name, case.family = f"mistral-{name}", "mistral"
    case.config["sliding_window"] = window
    return case


LONG = (130, 1, 7)

CASES = [
    # Heads and widths.
    llama("mha", "one kv head per query head (ratio 1)", H=64, I=56, Q=4, G=4, V=96, L=1),
    llama("gqa3", "ratio 3, D 12, hidden 72, odd vocabulary", H=72, I=52, Q=6, G=2, V=101, L=1),
    llama("gqa8", "ratio 8, head_dim 22 = twice hidden/heads", H=88, I=60, Q=8, G=1, V=67, L=1, D=22),
    llama("wide-head", "head_dim above hidden/heads", H=48, I=44, Q=4, G=2, V=89, L=1, D=32),
    llama("narrow-head", "head_dim 10 below hidden/heads, tied, odd vocabulary", H=96, I=40, Q=4, G=4, V=131, L=1, D=10,
          tie_word_embeddings=True),
    llama("one-head", "a single head of 128, one layer", H=40, I=56, Q=1, G=1, V=53, L=1, D=128),
    llama("odd-hidden", "odd hidden 75, odd FFN width 37, head_dim 18", H=75, I=37, Q=3, G=1, V=71, L=1, D=18, storage="float32"),
    llama("h120", "hidden 120, FFN 200, ratio 5", H=120, I=72, Q=10, G=2, V=61, L=1),
    llama("tiny", "every dim at its smallest: H 4, D 2, V 3, I 1", H=4, I=1, Q=2, G=1, V=3, L=3, D=2, lengths=(9, 1, 3)),
    llama("deep", "seven layers", H=32, I=48, Q=4, G=1, V=64, L=7, lengths=(20, 1, 3)),
    # Storage.
    llama("f32", "f32 storage, tied head", H=56, I=36, Q=7, G=7, V=77, L=1, storage="float32", tie_word_embeddings=True),
    llama("f16", "f16 storage", H=64, I=44, Q=4, G=2, V=83, L=1, storage="float16"),
    llama("mixed", "norms and lm_head in f32, the rest bf16", H=64, I=40, Q=4, G=2, V=79, L=1,
          storage_of={"norm.weight": "float32", "lm_head.weight": "float32"}),
    llama("unaligned", "tensor data at odd addresses, f32 and bf16", H=48, I=40, Q=4, G=2, V=73, L=1, unaligned=True,
          storage_of={"norm.weight": "float32", "o_proj.weight": "float32"}),
    llama("sharded", "many shards and an index", H=64, I=56, Q=4, G=2, V=97, shard_bytes=24_000),
    # Numbers.
    llama("eps", "eps 0.05: a wrong place or value shows", H=48, I=40, Q=4, G=2, V=59, L=1, rms_norm_eps=0.05),
    llama("gelu", "tanh-approximated GELU instead of SiLU", H=48, I=40, Q=4, G=2, V=59, L=1, hidden_act="gelu_pytorch_tanh"),
    llama("attention-bias", "biases on q, k, v and o", H=60, I=40, Q=5, G=1, V=65, L=1, D=12, attention_bias=True),
    llama("mlp-bias", "biases on gate, up and down", H=48, I=50, Q=4, G=2, V=67, mlp_bias=True),
    llama("all-biases", "all biases, tied, f32 storage, ratio 3", H=36, I=44, Q=6, G=2, V=51, D=8, attention_bias=True,
          mlp_bias=True, tie_word_embeddings=True, storage="float32"),
    # RoPE. The sequences run past the original context, where the kinds differ.
    llama("theta", "theta 100 and 130 positions", H=48, I=40, Q=4, G=2, V=61, L=1, lengths=LONG,
          rope={"rope_type": "default", "rope_theta": 100.0}),
    llama("llama3", "llama3 scaling, all three bands present", H=64, I=40, Q=4, G=2, V=71, L=1, D=32, lengths=LONG,
          rope={"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0,
                "high_freq_factor": 4.0, "original_max_position_embeddings": 32}),
    llama("linear", "linear scaling by 2.5", H=48, I=40, Q=4, G=4, V=73, L=1, lengths=LONG,
          rope={"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.5}),
    llama("yarn", "YaRN, defaults", H=64, I=40, Q=4, G=2, V=69, L=1, D=24, lengths=LONG, positions=160,
          rope={"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 32}),
    llama("yarn-full", "YaRN, betas, mscales, no truncation", H=64, I=40, Q=4, G=1, V=75, L=1, D=32, lengths=LONG, positions=320,
          rope={"rope_type": "yarn", "rope_theta": 50000.0, "factor": 10.0, "original_max_position_embeddings": 32,
                "beta_fast": 8.0, "beta_slow": 0.5, "mscale": 0.9, "mscale_all_dim": 0.4, "truncate": False}),
    llama("yarn-factor", "YaRN with its own attention factor", H=48, I=40, Q=6, G=2, V=63, L=1, D=16, lengths=LONG, positions=256,
          rope={"rope_type": "yarn", "rope_theta": 10000.0, "factor": 8.0, "original_max_position_embeddings": 32,
                "attention_factor": 0.8}),
    # Spellings.
    llama("legacy", "config and leftover tensors as transformers 4 wrote them; keys at their class default left out",
          H=64, I=40, Q=4, G=4, V=85, lengths=LONG, positions=2048, rms_norm_eps=1e-6, tie_word_embeddings=True, leftovers=True,
          rope={"rope_type": "linear", "rope_theta": 5000.0, "factor": 4.0},
          rewrite={"rope_parameters": None, "rope_theta": 5000, "rope_scaling": {"type": "linear", "factor": 4},
                   "head_dim": None, "num_key_value_heads": None, "rms_norm_eps": None, "max_position_embeddings": None,
                   "hidden_act": None, "attention_bias": None, "mlp_bias": None, "dtype": None, "torch_dtype": "bfloat16",
                   "transformers_version": "4.31.0"}),
    # Mistral: Llama's layers, with a window unless the config says null.
    mistral("null-window", "no window; attention_bias means nothing to the class", H=48, I=40, Q=4, G=2, V=69, window=None, D=16,
            lengths=LONG, rewrite={"attention_bias": True}),
    mistral("window", "sliding window of 16 over 130 positions", H=48, I=32, Q=4, G=1, V=71, window=16, lengths=LONG),
    # Mixture of experts.
    mixtral("e8k2", "the usual Mixtral", H=64, I=24, Q=4, G=2, V=87, E=8, K=2),
    mixtral("e3k1", "three experts, one per token", H=40, I=56, Q=5, G=5, V=57, E=3, K=1),
    mixtral("e5k5", "every expert for every token (K = E), f32 storage", H=36, I=20, Q=3, G=1, V=55, L=1, E=5, K=5, D=16,
            storage="float32"),
    mixtral("e16k4", "sixteen experts, four per token, tied, odd FFN width 23", H=48, I=23, Q=4, G=1, V=91, E=16, K=4, L=1,
            tie_word_embeddings=True),
    mixtral("e64k6", "sixty-four experts, six per token; most get no token in a short step", H=32, I=16, Q=4, G=2, V=63,
            E=64, K=6, L=1),
    mixtral("e64k1", "sixty-four experts, one per token", H=32, I=8, Q=2, G=2, V=49, E=64, K=1, L=1, D=20),
    mixtral("skew", "nearly every token chooses expert 0, some experts nobody", H=48, I=28, Q=6, G=2, V=65, E=8, K=2, L=1, skew=3.0),
    mixtral("window", "sliding window of 16 over 130 positions", H=48, I=32, Q=4, G=2, V=69, E=4, K=2, window=16, lengths=LONG),
    mixtral("window1", "a window of 1: only itself", H=32, I=32, Q=4, G=2, V=47, E=4, K=2, window=1),
    mixtral("yarn", "YaRN, ratio 8, hidden 88", H=88, I=24, Q=8, G=1, V=77, E=4, K=3, L=1, D=22, lengths=LONG, positions=160,
            rope={"rope_type": "yarn", "rope_theta": 1e6, "factor": 4.0, "original_max_position_embeddings": 32}),
    mixtral("llama3", "llama3 scaling, ratio 3, sharded", H=60, I=20, Q=6, G=2, V=81, E=6, K=2, D=16, lengths=LONG,
            shard_bytes=40_000,
            rope={"rope_type": "llama3", "rope_theta": 500000.0, "factor": 4.0, "low_freq_factor": 1.0,
                  "high_freq_factor": 4.0, "original_max_position_embeddings": 48}),
    mixtral("f16", "f16 experts, f32 router and norms", H=40, I=36, Q=4, G=4, V=67, E=7, K=2, storage="float16",
            storage_of={"gate.weight": "float32", "norm.weight": "float32"}),
    mixtral("stacked", "all experts of a layer in two tensors, odd FFN width 19, sharded", H=40, I=19, Q=5, G=1, V=59, E=5, K=3,
            stacked=True, shard_bytes=15_000),
    mixtral("own-head", "a head that is stored and differs, though the config says that it is tied", H=40, I=16, Q=4, G=2, V=57, E=4,
            K=2, L=1, rewrite={"tie_word_embeddings": True}),
    mixtral("defaults", "keys at their class default left out, theta at top level, experts named as modules",
            H=40, I=16, Q=32, G=8, V=61, E=8, K=2, D=4, positions=131072, module_names=True,
            rope={"rope_type": "default", "rope_theta": 1e6},
            rewrite={"rope_parameters": None, "num_key_value_heads": None, "num_local_experts": None,
                     "num_experts_per_tok": None, "rms_norm_eps": None, "num_attention_heads": None, "sliding_window": None,
                     "max_position_embeddings": None, "hidden_act": None, "tie_word_embeddings": None}),
]
