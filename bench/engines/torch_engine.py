"""torch: transformers in bf16 on the CPU, eager or with a compiled decode step. usage: MODEL IDS GENERATE THREADS MODE

eager: the model as it is loaded, with its growing cache. compile: a static cache and torch.compile on the decode step (the
prompt stays eager: compiling for one prompt length would be measured nowhere else). Compilation happens before `ready`.
"""

import json
import sys
import time

from common import serve


def main():
    model_dir, ids_file, generate, threads, mode = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
    import torch
    import transformers
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(threads)
    ids = torch.tensor([json.load(open(ids_file))])
    model = transformers.AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.bfloat16).eval()
    length = ids.shape[1]

    def new_cache():
        if mode == "compile":
            return transformers.StaticCache(config=model.config, max_cache_len=length + generate)
        return transformers.DynamicCache(config=model.config)

    step = torch.compile(model, dynamic=False) if mode == "compile" else model

    @torch.inference_mode()
    def measure(count=generate):
        cache = new_cache()
        start = time.perf_counter()
        logits = model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
        token = logits[:, -1:].argmax(-1)
        middle = time.perf_counter()
        tokens = [int(token)]
        for index in range(count):
            position = torch.tensor([[length + index]])
            logits = step(token, past_key_values=cache, position_ids=position, use_cache=True).logits
            token = logits[:, -1:].argmax(-1)
            tokens.append(int(token))
        return middle - start, time.perf_counter() - middle, tokens

    measure(3)  # warm up, and compile
    serve({"version": torch.__version__, "transformers": transformers.__version__, "threads": threads, "mode": mode}, measure)


if __name__ == "__main__":
    main()
