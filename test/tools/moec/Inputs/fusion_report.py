"""fusion_report.py OUT [KEY=JSON]...: a fusion report of a made-up model of 16 layers, with every key that moec fuse
writes. Options replace keys at the top; a value of `drop` removes one. The numbers follow from small formulas."""
import json
import sys

LAYERS = 16


def kl(first, length, form, repaired):
    weight = {"R": 3.0, "D": 1.0, "P": 1.2}[form] * (length - 1) ** 2 * (0.01 + 0.2 / (1 + first) + 0.4 * (first + length == LAYERS))
    return weight * ({"R": 0.45, "D": 0.12, "P": 0.15}[form] if repaired else 1)


def candidate(name, form, windows, **more):
    saved = sum({"R": 2 * n - 1, "D": n - 1, "P": 2 * n - 2}[form] for _, n in windows)
    plain = sum(kl(first, n, form, False) for first, n in windows)
    repaired = sum(kl(first, n, form, True) for first, n in windows)
    return {
        "name": name, "form": form, "windows": [{"first": first, "length": n, "form": form} for first, n in windows],
        "repaired": True, "sub_layers": 2 * LAYERS - saved, "weight_bytes": 14700000, "kv_bytes_per_token": 8192,
        "kl_predicted": repaired, "kl_plain": plain, "kl": repaired * 1.03, "kl_bound": repaired * 1.1, "same_winner": 0.97,
        "loss": 3.21 + repaired, "decode_ms": 0.9 - 0.012 * saved, "prefill_tokens_per_s": 9000.0 + 90 * saved,
        "gain": 0.012 * saved / 0.9, "kept": False, "reason": "another plan gains more", **more,
    }


report = {
    "format": "moe-fusion-report", "version": 1,
    "model": {"family": "llama", "directory": "tiny", "layers": LAYERS, "hidden": 128, "parameters": 3674240, "fingerprint": "00"},
    "calibration": {
        "tokens": 20480, "sequences": 40, "held_out_tokens": 10240, "domains": ["English", "German", "C++ <templates>"],
        "dependency": [[0 if j <= i else 0.5 ** (1 + (j - i) / 2 + 4 * (i > 1)) for j in range(LAYERS)] for i in range(LAYERS)],
        "block_influence": [0.3 / (1 + i) + 0.02 for i in range(LAYERS)],
        "attention_contribution": [0.2 / (1 + i) + 0.01 for i in range(LAYERS)],
        "attention_removed_kl": [2.0 / (1 + i) ** 2 + 0.03 for i in range(LAYERS)],
    },
    "windows": [
        {"first": first, "length": n, "form": form, "error": 0.1 * n, "error_repaired": 0.05 * n, "kl": kl(first, n, form, False),
         "kl_repaired": kl(first, n, form, True), "legal": first > 0, "reason": "" if first > 0 else "layer 0 keeps its attention"}
        for form in "RDP" for n in (2, 3, 4) for first in range(LAYERS - n + 1)
    ],
    "engine": {"for": "vllm", "product": "vLLM", "forms": "D, P", "format": "nemotron-nas", "minimum_version": "0.32", "how": "natively"},
    "budget": {"max_kl": 0.02, "min_top_1": 0.95, "min_gain": 0.02, "ranks": 2, "target": "cpu", "threads": 4},
    "candidates": [
        candidate("paper", "R", [(12, 2)], repaired=False, reason="KL at most 0.31 is above 0.02"),
        candidate("four pairs", "P", [(5, 2), (8, 2), (10, 2), (12, 2)]),
        candidate("short", "D", [(9, 2)]),
        candidate("search 0.02", "D", [(6, 3), (10, 2), (12, 2)], kept=True, reason=""),
        candidate("long", "D", [(3, 4), (8, 4)], decode_ms=None, prefill_tokens_per_s=None, gain=None, reason="not measured"),
    ],
    "base": {"sub_layers": 2 * LAYERS, "weight_bytes": 14696960, "kv_bytes_per_token": 8192, "loss": 3.21, "decode_ms": 0.9,
             "prefill_tokens_per_s": 9000.0},
    "plan": {"format": "moe-fusion-plan", "version": 1, "layers": LAYERS,
             "windows": [{"first": 6, "length": 3, "form": "D"}, {"first": 10, "length": 2, "form": "P"}, {"first": 12, "length": 2, "form": "R"}]},
    "domains": [{"name": name, "kl": 0.011 + 0.003 * i, "kl_bound": 0.013 + 0.003 * i, "same_winner": 0.97}
                for i, name in enumerate(["English", "German", "C++ <templates>"])],
    "verdict": "fuse", "reason": "KL is at most 0.0189 (95 %) and decoding gains 5.3 %",
    "notes": ["LoRA adapters & draft heads of the base model no longer fit"],
}
for change in sys.argv[2:]:
    key, value = change.split("=", 1)
    if value == "drop":
        del report[key]
    else:
        report[key] = json.loads(value)
json.dump(report, open(sys.argv[1], "w"))
