#!/usr/bin/env python3
"""Runs one model in one engine: drive.py ENGINE MODEL REQUEST.json ANSWER.json

ENGINE: llama.cpp, llama.cpp-q8_0 (quantised by its own quantiser before), transformers, vllm (its own class of the model), vllm-transformers (its Transformers backend).
REQUEST: {"sequences": [[ids]...], "prompt": ids, "new": count}. ANSWER: {"version", "greedy": ids} and, of every
position of every sequence, "logits", or "logprobs" of the id that comes next (vllm gives no logits). Everything in f32.
Executed by the Python of the engine's own environment; imports nothing of this repository. The engine is as it came from
the package index, and the model as it was exported.
"""

import json
import sys


def llama_cpp(path, request):
    import llama_cpp
    # A cache of f32 and no flash attention, which rounds to f16: else the engine is 0.03 off with any model.
    longest = max(map(len, request["sequences"] + [request["prompt"] + [0] * request["new"]]))
    model = llama_cpp.Llama(path, n_ctx=longest + 1, n_batch=longest + 1, logits_all=True, flash_attn=False, type_k=0,
                            type_v=0, n_threads=2, verbose=False)
    logits = []
    for ids in request["sequences"]:
        model.reset()
        model.eval(ids)
        logits.append(model.scores[:len(ids)].tolist())
    model.reset()
    model.eval(request["prompt"])
    greedy = []
    for _ in range(request["new"]):
        greedy.append(int(model.scores[model.n_tokens - 1].argmax()))
        model.eval(greedy[-1:])
    return {"version": llama_cpp.__version__, "logits": logits, "greedy": greedy}


def quantised(path):
    import ctypes
    import llama_cpp
    settings = llama_cpp.llama_model_quantize_default_params()
    settings.ftype = llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0
    out = path.removesuffix(".gguf") + ".q8_0.gguf"
    if llama_cpp.llama_model_quantize(path.encode(), out.encode(), ctypes.byref(settings)):
        sys.exit(f"llama.cpp cannot quantise {path}")
    return out


def transformers(path, request):
    import torch
    import transformers
    model = transformers.AutoModelForCausalLM.from_pretrained(path, trust_remote_code=True, dtype=torch.float32).eval()
    with torch.no_grad():
        logits = [model(torch.tensor([ids])).logits[0].tolist() for ids in request["sequences"]]
        ids, past, greedy = torch.tensor([request["prompt"]]), None, []
        for _ in range(request["new"]):
            out = model(ids, past_key_values=past, use_cache=True)
            past = out.past_key_values
            ids = out.logits[:, -1:].argmax(-1)
            greedy.append(int(ids))
    return {"version": transformers.__version__, "logits": logits, "greedy": greedy}


def vllm(path, request, implementation):
    import os
    os.environ.update(VLLM_CPU_KVCACHE_SPACE="1", VLLM_CPU_OMP_THREADS_BIND="nobind", HF_HUB_OFFLINE="1",
                      VLLM_NO_USAGE_STATS="1", DO_NOT_TRACK="1", OMP_NUM_THREADS="2", VLLM_LOGGING_LEVEL="WARNING",
                      VLLM_ENABLE_V1_MULTIPROCESSING="0")
    import vllm
    longest = max(map(len, request["sequences"] + [request["prompt"] + [0] * request["new"]]))
    model = vllm.LLM(path, trust_remote_code=True, model_impl=implementation, dtype="float32", enforce_eager=True,
                     max_model_len=longest + 1, max_num_seqs=2, enable_prefix_caching=False)
    once = vllm.SamplingParams(max_tokens=1, prompt_logprobs=0, temperature=0)
    outputs = model.generate([{"prompt_token_ids": ids} for ids in request["sequences"]], once)
    logprobs = [[out.prompt_logprobs[i][ids[i]].logprob for i in range(1, len(ids))]
                for out, ids in zip(outputs, request["sequences"])]
    longer = vllm.SamplingParams(max_tokens=request["new"], temperature=0, ignore_eos=True)
    greedy = list(model.generate([{"prompt_token_ids": request["prompt"]}], longer)[0].outputs[0].token_ids)
    return {"version": vllm.__version__, "logprobs": logprobs, "greedy": greedy}


def main():
    engine, path, request, answer = sys.argv[1:]
    request = json.load(open(request))
    run = {
        "llama.cpp": llama_cpp, "llama.cpp-q8_0": lambda p, r: llama_cpp(quantised(p), r), "transformers": transformers, "vllm": lambda p, r: vllm(p, r, "vllm"),
        "vllm-transformers": lambda p, r: vllm(p, r, "transformers"),
    }[engine]
    result = run(path, request)
    json.dump(result, open(answer, "w"))


if __name__ == "__main__":
    main()
