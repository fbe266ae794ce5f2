#!/usr/bin/env python3
"""Compares moe-run with transformers on SmolLM2: 512 tokens of text, f32 and bf16, and the famous first word.

The reference is the model in float64 on the same bf16 weights; bounds are those of the golden tests (compare.py there).
Also compares the token ids of awkward texts with the `tokenizers` library. Needs torch and transformers; exit code 1 if
anything is off.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "test" / "golden"))
import compare  # noqa: E402

# Ours, so that it may be committed: plain prose, lists, code and numbers, repeated until there are enough tokens.
TEXT = (ROOT / "examples/smollm2/text.txt").read_text()
AWKWARD = ["The capital of France is", " ", "  two  spaces", "tab\tand\nnewlines\n\n\nend ", "don't I'll we've IT'S",
           "1234567890 3.14159 1,000", "naïve café Straße ÆØÅ", "日本語のテキスト", "emoji 👩‍👩‍👧 🇫🇷 !",
           "<|im_start|>user\nHi<|im_end|>\n", "def f(x):\n    return x**2  # squared\n", "\u00a0\u2003\ufeff", "a" * 300]


def tool(*command):
    return subprocess.run(list(map(str, command)), check=True, stdout=subprocess.PIPE, text=True).stdout


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", type=pathlib.Path, help="the directory that convert.py printed")
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--bin", type=pathlib.Path, default=ROOT / "build/bin", help="folder of moec and moe-run")
    args = parser.parse_args()

    import torch
    import transformers
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    tokenizer = transformers.AutoTokenizer.from_pretrained(args.model)
    ids = tokenizer(TEXT * 8, verbose=False).input_ids[: args.tokens]
    model = transformers.AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float64, attn_implementation="eager")
    with torch.no_grad():
        reference = model.eval()(torch.tensor([ids]), use_cache=False).logits[0].numpy()
    del model

    failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        (scratch / "ids.json").write_text(json.dumps([ids]))
        for dtype, check in (("f32", compare.compare_f32), ("bf16", compare.compare_bf16)):
            package = scratch / dtype
            tool(args.bin / "moec", "compile", args.model, "-o", package, "--dtype", dtype)
            tool(args.bin / "moe-run", "logits", package, "--ids-file", scratch / "ids.json", "-o", scratch / "out.npy")
            logits = np.load(scratch / "out.npy")
            try:
                print(f"ok   {dtype}: {len(ids)} tokens, {check(reference, logits)}, top-1 equal in "
                      f"{(logits.argmax(1) == reference.argmax(1)).mean():.2%}, mean KL {compare.mean_kl(reference, logits):.2e}")
            except compare.Mismatch as error:
                failed += 1
                print(f"FAIL {dtype}: {error}")
            text = tool(args.bin / "moe-run", "generate", package, "--prompt", AWKWARD[0], "--max-new", 1, "--temperature", 0)
            if " Paris" not in text:
                failed += 1
            print(f"{'ok  ' if ' Paris' in text else 'FAIL'} {dtype}: {text.strip()!r}")
        for text in AWKWARD:
            ours = json.loads(tool(args.bin / "moe-run", "generate", package, "--prompt", text, "--max-new", 0, "--json"))["prompt_ids"]
            theirs = tokenizer(text).input_ids
            if ours != theirs:
                failed += 1
                print(f"FAIL ids of {text[:40]!r}: {ours[:12]}, expected {theirs[:12]}")
    print("smollm2: " + (f"{failed} checks failed" if failed else "all checks passed"))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
