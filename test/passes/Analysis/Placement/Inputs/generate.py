"""Writes the .pt files of FilesTest.cpp with torch.save: run in this folder with torch installed."""

import collections
import os
import zipfile

import torch

# SGLang, mode stat: [steps, layers, experts], layer 0 dense, step 1 an empty place of the ring buffer.
counts = torch.arange(1, 1 + 3 * 4 * 8, dtype=torch.int32).reshape(3, 4, 8)
counts[1] = 0
counts[:, 0] = 0
torch.save({"rank": 0, "logical_count": counts, "average_utilization_rate_over_window": None}, "sglang_stat.pt")

# vllm-ascend: MoE layers only; not contiguous, bfloat16.
torch.save(torch.arange(24, dtype=torch.float32).reshape(8, 3).t().to(torch.bfloat16) + 1, "ascend_heat.pt")


# A pickle that would run a command.
class Evil:
    def __reduce__(self):
        return os.system, ("true",)


torch.save(collections.OrderedDict(logical_count=Evil()), "forbidden.pt")
assert "os" in zipfile.ZipFile("forbidden.pt").read("forbidden/data.pkl").decode("latin1")
