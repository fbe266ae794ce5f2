"""llama.cpp through llama-cpp-python's C bindings. usage: GGUF IDS GENERATE THREADS

Calls llama_decode itself, so that no Python wrapper stands between the numbers and the engine. The whole prompt is one batch.
`quantize SOURCE TARGET` instead writes a BF16 GGUF from any other.
"""

import ctypes
import json
import os
import sys
import time

from common import serve

BF16 = 32  # LLAMA_FTYPE_MOSTLY_BF16


def quiet():
    """llama.cpp logs to stderr at length; a callback that drops it, kept alive by the caller."""
    import llama_cpp
    callback = llama_cpp.llama_log_callback(lambda level, text, data: None)
    llama_cpp.llama_log_set(callback, ctypes.c_void_p(0))
    return callback


def quantize(source, target):
    import llama_cpp
    keep = quiet()
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype, parameters.allow_requantize, parameters.nthread = BF16, True, os.cpu_count()
    scratch = f"{target}.tmp-{os.getpid()}"
    if llama_cpp.llama_model_quantize(source.encode(), scratch.encode(), ctypes.byref(parameters)) != 0:
        sys.exit(f"llama_model_quantize failed on {source}")
    os.replace(scratch, target)
    del keep


def main():
    if sys.argv[1] == "quantize":
        return quantize(sys.argv[2], sys.argv[3])
    import llama_cpp
    import numpy as np
    gguf, ids, generate, threads = sys.argv[1], json.load(open(sys.argv[2])), int(sys.argv[3]), int(sys.argv[4])
    keep = quiet()
    llama_cpp.llama_backend_init()
    model = llama_cpp.llama_model_load_from_file(gguf.encode(), llama_cpp.llama_model_default_params())
    options = llama_cpp.llama_context_default_params()
    options.n_ctx = len(ids) + generate + 8
    options.n_batch = options.n_ubatch = len(ids)
    options.n_threads = options.n_threads_batch = threads
    context = llama_cpp.llama_init_from_model(model, options)
    vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))

    def decode(tokens):
        array = (llama_cpp.llama_token * len(tokens))(*tokens)
        if llama_cpp.llama_decode(context, llama_cpp.llama_batch_get_one(array, len(tokens))) != 0:
            sys.exit("llama_decode failed")
        logits = llama_cpp.llama_get_logits_ith(context, -1)
        return int(np.ctypeslib.as_array(logits, shape=(vocabulary,)).argmax())

    def measure(count=generate):
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)
        start = time.perf_counter()
        tokens = [decode(ids)]
        middle = time.perf_counter()
        for _ in range(count):
            tokens.append(decode(tokens[-1:]))
        return middle - start, time.perf_counter() - middle, tokens

    measure(3)
    serve({"version": llama_cpp.__version__, "threads": threads}, measure)
    del keep


if __name__ == "__main__":
    main()
