#!/usr/bin/env python3
"""Makes the golden fixtures: tiny random checkpoints of the official classes, and their logits in f64 arithmetic.

Key idea: the checkpoint on disk is the truth. Weights are drawn (numpy, fixed seed), rounded to their storage type,
written, read back by `from_pretrained`, and only then run in float64. So a reference answers for the very bytes that
the compiler reads. The classes keep a few steps in f32 whatever the model's type (RMSNorm statistics, softmax, rotary
tables); that error is about 1e-6, a hundredth of the f32 tolerance.

Each case records how hard it is: how close a router came to choosing another expert, and what torch itself loses in
f32 and in bf16. A router's choice is a step function: where two experts are almost equal, rounding decides, and no
arithmetic can be blamed. So seeds are searched until every gap is wider than bf16 noise and torch itself stays inside
the bf16 bound.

    generate.py [--only NAME...]     write fixtures/
    generate.py --check              run the committed checkpoints again and compare with the committed logits
    generate.py --bundled DIR NAME   references for a checkpoint that lives elsewhere, on ids sampled from itself

Needs torch and transformers (versions: README.md). Tests need neither; they read what this wrote.
"""

import argparse
import json
import pathlib
import shutil
import sys
import tempfile

import numpy as np
import torch
import transformers
from transformers import AutoModelForCausalLM

import safetensors_io as st
from cases import CASES
import textbook

HERE = pathlib.Path(__file__).resolve().parent
FIXTURES = HERE / "fixtures"
MIN_ROUTER_GAP = 6e-3
MAX_BF16_KL = 6e-4
VERSIONS = {"torch": torch.__version__.split("+")[0], "transformers": transformers.__version__, "numpy": np.__version__}


def draw(name, shape, rng, case):
    """A weight that makes every part matter: attention is not uniform, routers decide, logits spread over a few units."""
    noise = rng.standard_normal(shape)
    if name.endswith("norm.weight"):
        return 1 + 0.25 * noise
    if name.endswith(".bias"):
        return 0.3 * noise
    if "embed_tokens" in name:
        return noise * (2.0 / np.sqrt(shape[1]) if case.config.get("tie_word_embeddings") else 0.7)
    gain = {"q_proj": 1.4, "k_proj": 1.4, "gate.weight": 1.5, "lm_head": 2.0}
    return noise / np.sqrt(shape[-1]) * next((g for key, g in gain.items() if key in name), 1.0)


def config_of(case):
    classes = {"llama": transformers.LlamaConfig, "mistral": transformers.MistralConfig, "mixtral": transformers.MixtralConfig}
    return classes[case.family](**{k: (dict(v) if isinstance(v, dict) else v) for k, v in case.config.items()},
                                bos_token_id=None, eos_token_id=None)


def write_checkpoint(case, seed, out):
    """config.json and the shards, through save_pretrained, then the changes the case asks for."""
    rng = np.random.default_rng(seed)
    classes = {"llama": transformers.LlamaForCausalLM, "mistral": transformers.MistralForCausalLM,
               "mixtral": transformers.MixtralForCausalLM}
    config = config_of(case)
    model = classes[case.family](config).to(getattr(torch, case.storage))
    with torch.no_grad():
        push = rng.standard_normal(config.hidden_size)
        for name, p in model.named_parameters():
            values = draw(name, tuple(p.shape), rng, case)
            if case.skew and "embed_tokens" in name:
                values += 0.7 * push
            if case.skew and name.endswith("gate.weight"):
                values[0] += case.skew * push / np.sqrt(config.hidden_size)
            p.copy_(torch.from_numpy(values))
    config.dtype = case.storage
    model.save_pretrained(out, max_shard_size=case.shard_bytes or 10**9, save_original_format=not case.stacked)
    (out / "generation_config.json").unlink(missing_ok=True)

    for path in out.glob("*.safetensors"):
        tensors = st.read(path)
        for name, tensor in list(tensors.items()):
            dtype = next((d for suffix, d in case.storage_of.items() if name.endswith(suffix)), None)
            if dtype:
                tensors[name] = st.to_storage(st.from_storage(tensor), dtype)
        if case.leftovers:
            for layer in range(config.num_hidden_layers):
                inv_freq = 1e4 ** -(np.arange(0, config.head_dim, 2) / config.head_dim)
                tensors[f"model.layers.{layer}.self_attn.rotary_emb.inv_freq"] = st.to_storage(inv_freq, "float32")
            tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
        st.write(path, tensors)

    text = json.loads((out / "config.json").read_text())
    for key, value in case.rewrite.items():
        text.pop(key, None) if value is None else text.__setitem__(key, value)
    (out / "config.json").write_text(json.dumps(text, indent=1, sort_keys=True) + "\n")


def change_layout(case, out):
    """What torch or the classes would not read, though it is the same checkpoint: done after the reference is computed."""
    renames = {"block_sparse_moe.": "mlp.", ".w1.": ".gate_proj.", ".w2.": ".down_proj.", ".w3.": ".up_proj."}
    for path in out.glob("*.safetensors"):
        tensors = st.read(path)
        for old, new in renames.items() if case.module_names else ():
            tensors = {name.replace(old, new): tensor for name, tensor in tensors.items()}
        st.write(path, tensors, case.unaligned)


def restore_layout(out):
    """Undoes change_layout: aligned, and experts named as on the hub."""
    renames = {".gate_proj.": ".w1.", ".down_proj.": ".w2.", ".up_proj.": ".w3.", ".mlp.": ".block_sparse_moe."}
    for path in out.glob("*.safetensors"):
        tensors = st.read(path)
        if any(".mlp.experts." in name for name in tensors):
            for old, new in renames.items():
                tensors = {name.replace(old, new): tensor for name, tensor in tensors.items()}
        st.write(path, tensors)


def load(path, dtype):
    """The model; every parameter must have come from the checkpoint."""
    model, info = AutoModelForCausalLM.from_pretrained(path, dtype=dtype, attn_implementation="eager", output_loading_info=True)
    assert not info["missing_keys"] and not info["mismatched_keys"], info
    if model.config.model_type == "mixtral":
        model.set_experts_implementation("eager")
    return model.eval()


@torch.no_grad()
def logits_of(path, sequences, dtype):
    """Logits of all sequences, one under the other, and the smallest gap between the K-th and the next router logit."""
    model, rows, gap = load(path, dtype), [], np.inf
    moe = model.config.model_type == "mixtral"
    for ids in sequences:
        result = model(torch.tensor([ids]), use_cache=False, **({"output_router_logits": True} if moe else {}))
        rows.append(result.logits[0].double().numpy())
        k = getattr(model.config, "num_experts_per_tok", 0)
        for router in (result.router_logits if moe else ()):
            if k < router.shape[-1]:
                top = router.double().sort(-1, descending=True).values
                gap = min(gap, float((top[:, k - 1] - top[:, k]).min()))
    return np.concatenate(rows), gap


def divergence(reference, logits):
    """Mean KL(reference || logits) over the rows, in nats."""
    def log_softmax(x):
        x = x - x.max(-1, keepdims=True)
        return x - np.log(np.exp(x).sum(-1, keepdims=True))
    p, q = log_softmax(reference.astype(np.float64)), log_softmax(logits.astype(np.float64))
    return float((np.exp(p) * (p - q)).sum(-1).mean())


def hardness(source, sequences, reference, gap):
    """What torch loses on these sequences in f32 and bf16, and the router gap, for meta.json."""
    single, _ = logits_of(source, sequences, torch.float32)
    half, _ = logits_of(source, sequences, torch.bfloat16)
    result = {"torch_f32_max_delta": float(f"{np.abs(single - reference).max():.3g}"),
              "torch_bf16_kl": float(f"{divergence(reference, half):.3g}")}
    return {**result, "min_router_gap": float(f"{gap:.3g}")} if np.isfinite(gap) else result


def record(path, sequences, reference, meta):
    """ids.json, logits.npy and meta.json of a fixture."""
    meta = {**meta, "tokens": sum(map(len, sequences)), "vocabulary": reference.shape[1], "versions": VERSIONS,
            "max_abs_logit": round(float(np.abs(reference).max()), 4)}
    (path / "ids.json").write_text(json.dumps(sequences) + "\n")
    np.save(path / "logits.npy", reference.astype(np.float32))
    (path / "meta.json").write_text(json.dumps(meta, indent=1, sort_keys=True) + "\n")
    print(f"{path.name:24} T={meta['tokens']:4} V={meta['vocabulary']:4} |logit|<={meta['max_abs_logit']:<8} "
          f"f32 {meta['torch_f32_max_delta']:<9.2g} bf16 KL {meta['torch_bf16_kl']:<9.2g} "
          f"gap {meta.get('min_router_gap', '-')} {sum(f.stat().st_size for f in path.iterdir()) // 1024} KiB", flush=True)


def make_case(case, first_seed):
    for seed in range(first_seed, first_seed + 500_000, 1000):
        with tempfile.TemporaryDirectory() as scratch:
            out = pathlib.Path(scratch) / case.name
            write_checkpoint(case, seed, out)
            rng = np.random.default_rng(seed + 1)
            sequences = [rng.integers(0, case.config["vocab_size"], n).tolist() for n in case.lengths]
            reference, gap = logits_of(out, sequences, torch.float64)
            if gap < MIN_ROUTER_GAP:
                continue
            hard = hardness(out, sequences, reference, gap)
            if hard["torch_bf16_kl"] > MAX_BF16_KL:
                continue
            target = FIXTURES / case.name
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(out, target)
            change_layout(case, target)
            for path in target.iterdir():
                path.chmod(0o644)
            record(target, sequences, reference, {**hard, "seed": seed, "family": case.family, "why": case.why})
            return
    raise SystemExit(f"{case.name}: no seed gives a router gap of {MIN_ROUTER_GAP} and a bf16 KL of {MAX_BF16_KL}")


def check(names):
    """The committed logits must be what the committed checkpoint gives today."""
    failed = 0
    for path in sorted(p.parent for p in FIXTURES.glob("*/config.json")):
        if names and path.name not in names:
            continue
        with tempfile.TemporaryDirectory() as scratch:
            copy = pathlib.Path(scratch) / path.name
            shutil.copytree(path, copy)
            restore_layout(copy)
            logits, _ = logits_of(copy, json.loads((path / "ids.json").read_text()), torch.float64)
        delta = np.abs(logits - np.load(path / "logits.npy")).max()
        bad = not delta <= 1e-5 * max(1, np.abs(logits).max())
        failed += bad
        print(f"{'FAIL' if bad else 'ok  '} {path.name}: max |delta| {delta:.2g}")
    return failed


@torch.no_grad()
def make_bundled(directory, name, seed):
    """References for a trained checkpoint on ids it sampled itself: nobody's sentences but its own."""
    target = FIXTURES / name
    target.mkdir(parents=True, exist_ok=True)
    model = load(directory, torch.float32)
    torch.manual_seed(seed)
    sequences = []
    for length in (96, 1, 33, 160, 7):
        start = torch.randint(2, model.config.vocab_size, (1, 1))
        ids = model.generate(start, do_sample=True, temperature=1.0, top_k=0, min_new_tokens=length, max_new_tokens=length,
                             pad_token_id=1)
        sequences.append(ids[0, :length].tolist())
    reference, gap = logits_of(directory, sequences, torch.float64)
    # 2,048 columns a row: an eighth of the rows keeps the file small; `rows` says which.
    record(target, sequences, reference,
           {**hardness(directory, sequences, reference, gap), "seed": seed, "family": model.config.model_type,
            "why": "the bundled trained checkpoint", "checkpoint": f"examples/models/{pathlib.Path(directory).name}"})
    keep_rows(target, 8)


def keep_rows(target, step):
    """Keeps every `step`-th row of logits.npy and the last one of each sequence; `rows` in meta.json lists them."""
    lengths = [len(s) for s in json.loads((target / "ids.json").read_text())]
    ends = set((np.cumsum(lengths) - 1).tolist())
    rows = [r for r in range(sum(lengths)) if r % step == 0 or r in ends]
    logits = np.load(target / "logits.npy")
    np.save(target / "logits.npy", logits[rows])
    meta = json.loads((target / "meta.json").read_text())
    meta["rows"] = rows
    (target / "meta.json").write_text(json.dumps(meta, sort_keys=True) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="*", default=[], help="names of cases")
    parser.add_argument("--check", action="store_true", help="compare the committed logits with today's")
    parser.add_argument("--bundled", nargs=2, metavar=("DIR", "NAME"), help="references of a checkpoint kept elsewhere")
    args = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    if args.check:
        sys.exit(1 if check(args.only) else 0)
    if args.bundled:
        return make_bundled(args.bundled[0], args.bundled[1], seed=7)
    assert len({c.name for c in CASES}) == len(CASES), "case names must differ"
    for index, case in enumerate(CASES):
        if not args.only or case.name in args.only:
            make_case(case, first_seed=index)
    for name in textbook.NAMES:
        if not args.only or name in args.only:
            textbook.make(FIXTURES / name, VERSIONS)


if __name__ == "__main__":
    main()
