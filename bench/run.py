#!/usr/bin/env python3
"""moe-run beside torch and llama.cpp: prompt and decode speed of one model in bf16 on this machine.

Key idea: a speed means nothing alone. In one run, in turn, `--repeats` times: every engine reads the same prompt of 512
tokens and then writes 128 greedily; beside them stand the read bandwidth and the matrix peak of the same machine, measured
at the start and at the end, since a decode step reads every weight once and a prompt is one large matrix product. The
table shows medians, the spread (min to max), the ratio to each peer and the share of bandwidth or peak. An engine that is
not installed is named in the report and left out; nothing is installed here.

    ./dev bench                                        SmolLM2 (examples/smollm2/convert.py makes it)
    python3 bench/run.py --model DIR --prompt 512 --generate 128 --repeats 5 --json out.json
    python3 bench/run.py --python .venv/bin/python     where torch, transformers and llama_cpp are importable
"""

import argparse
import datetime
import itertools
import json
import os
import pathlib
import platform
import random
import statistics
import struct
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "moe-opt" / "smollm2"


class Unavailable(Exception):
    """An engine cannot take part; the message says why."""


class Worker:
    """A peer in a process of its own (engines/common.py)."""

    def __init__(self, name, command):
        self.name = name
        self.log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log,
                                        text=True)
        self.facts = self.answer()

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            self.log.seek(0)
            said = self.log.read().strip().splitlines()
            raise Unavailable(said[-1] if said else f"exit code {self.process.returncode}")
        return json.loads(line)

    def measure(self):
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return self.answer()

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class MoeRun:
    """moe-run: its own `bench` command, which loads, warms up and measures once per call."""

    name = "moe-run"

    def __init__(self, args, ids, scratch):
        package = scratch / "package"
        call([args.bin / "moec", "compile", args.model, "-o", package, "--dtype", "bf16", "--max-tokens", max(512, args.prompt)])
        common = [package, "--threads", args.threads, "--json"]
        self.command = [args.bin / "moe-run", "bench", *common, "--prompt-length", args.prompt, "--generate", args.generate,
                        "--repeat", 1]
        greedy = json.loads(call([args.bin / "moe-run", "generate", *common, "--ids", ",".join(map(str, ids)), "--max-new",
                                  min(16, args.generate), "--temperature", 0, "--ignore-eos"]))
        self.tokens = greedy["ids"]
        self.facts = {"version": call([args.bin / "moe-run", "--version"]).strip(), "threads": greedy["threads"],
                      "variant": greedy["variant"]}
        self.prompt, self.generate = args.prompt, args.generate

    def measure(self):
        result = json.loads(call(self.command))
        return {"prefill": self.prompt / result["prefill_tokens_per_second"]["median"],
                "decode": self.generate / result["decode_tokens_per_second"]["median"], "tokens": self.tokens}

    def close(self):
        pass


def call(command):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise Unavailable(f"{pathlib.Path(command[0]).name} {command[1]}: {said[-1] if said else f'exit code {done.returncode}'}")
    return done.stdout


def weight_bytes(model):
    """Bytes that one decode step reads: all tensors, less the embedding table unless it is also the head."""
    total, embedding = 0, 0
    tied = json.loads((model / "config.json").read_text()).get("tie_word_embeddings", False)
    for path in model.glob("*.safetensors"):
        with open(path, "rb") as file:
            header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        for name, entry in header.items():
            if name != "__metadata__":
                size = entry["data_offsets"][1] - entry["data_offsets"][0]
                total += size
                embedding += size if name.endswith("embed_tokens.weight") else 0
    return total - (0 if tied else embedding)


def matrix_parameters(model):
    """Parameters that multiply every prompt token: all matrices of the layers. Heads run for one row only."""
    count = 0
    for path in model.glob("*.safetensors"):
        with open(path, "rb") as file:
            header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        for name, entry in header.items():
            if ".layers." in name and len(entry["shape"]) == 2:
                count += entry["shape"][0] * entry["shape"][1]
    return count


def machine(args):
    """Read bandwidth (GB/s) and matrix peak (GFLOP/s) as they are right now."""
    threads = args.threads
    return (json.loads(call([args.bin / "bench-bandwidth", threads, 1024, 2]))["gigabytes_per_second"],
            json.loads(call([args.bin / "bench-peak", threads, 0.5]))["bf16"])


def cpu_name():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown"


def commit():
    done = subprocess.run(["git", "-C", str(ROOT), "describe", "--always", "--dirty"], capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def start_engines(args, ids, ids_file, scratch):
    """{name: engine} of those that start, {name: reason} of the others."""
    def llama_cpp():
        cache = args.cache
        gguf = cache / f"{args.model.name}-BF16.gguf"
        if not gguf.exists():
            sources = sorted(p for p in cache.glob("*.gguf") if p != gguf)
            if not sources:
                raise Unavailable(f"no .gguf of the same model in {cache}; examples/smollm2/convert.py leaves one there")
            call([args.python, HERE / "engines/llama_cpp_engine.py", "quantize", sources[0], gguf])
        return Worker("llama.cpp", [args.python, HERE / "engines/llama_cpp_engine.py", gguf, ids_file, args.generate, args.threads])

    def torch(mode):
        return lambda: Worker(f"torch-{mode}", [args.python, HERE / "engines/torch_engine.py", args.model, ids_file,
                                                args.generate, args.threads, mode])

    makers = {"moe-run": lambda: MoeRun(args, ids, scratch), "torch-eager": torch("eager"),
              "torch-compile": torch("compile"), "llama.cpp": llama_cpp}
    engines, missing = {}, {}
    for name in args.engines:
        print(f"starting {name}", file=sys.stderr)
        try:
            engines[name] = makers[name]()
        except (Unavailable, OSError, KeyError, ValueError) as error:
            missing[name] = str(error) or type(error).__name__
    return engines, missing


def spread(values):
    return {"median": round(statistics.median(values), 2), "min": round(min(values), 2), "max": round(max(values), 2)}


def report(args, engines, missing, rounds, before, after):
    """The whole result as one JSON-able object."""
    decode_bytes, flops = weight_bytes(args.model), 2 * matrix_parameters(args.model) * args.prompt
    bandwidth, peak = max(before[0], after[0]), max(before[1], after[1])
    results = {}
    for name, samples in rounds.items():
        decode = spread([args.generate / s["decode"] for s in samples])
        prefill = spread([args.prompt / s["prefill"] for s in samples])
        results[name] = {
            "facts": engines[name].facts, "prefill_tokens_per_second": prefill, "decode_tokens_per_second": decode,
            "share_of_bandwidth": round(decode["median"] * decode_bytes / bandwidth / 1e9, 3),
            "share_of_peak": round(prefill["median"] * flops / args.prompt / peak / 1e9, 3), "tokens": samples[0]["tokens"][:16]}
    ratios = {}
    for name in results:
        if name != "moe-run" and "moe-run" in results:
            ratios[name] = {key: round(results["moe-run"][f"{key}_tokens_per_second"]["median"] /
                                       results[name][f"{key}_tokens_per_second"]["median"], 3) for key in ("prefill", "decode")}
    return {
        "cpu": cpu_name(), "threads": args.threads, "commit": commit(), "kernel": platform.release(),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"), "load_average": os.getloadavg()[0],
        "command": " ".join(["bench/run.py", *sys.argv[1:]]), "model": args.model.name, "prompt": args.prompt,
        "generate": args.generate, "repeats": args.repeats, "bandwidth_gigabytes_per_second": {"before": before[0], "after": after[0]},
        "bf16_peak_gigaflops": {"before": before[1], "after": after[1]}, "bytes_per_decode_step": decode_bytes,
        "engines": results, "ratio_of_moe_run": ratios, "missing": missing}


def table(result):
    """The report as the lines a reader looks at first."""
    bandwidth, peak = result["bandwidth_gigabytes_per_second"], result["bf16_peak_gigaflops"]
    yield (f"{result['model']} bf16, {result['cpu']}, {result['threads']} threads, commit {result['commit']}, {result['date']}")
    yield (f"read bandwidth {bandwidth['before']:.1f} / {bandwidth['after']:.1f} GB/s, bf16 peak {peak['before']:.0f} / "
           f"{peak['after']:.0f} GFLOP/s (before / after); median [min-max] of {result['repeats']}")
    yield ""
    yield f"| engine | prefill {result['prompt']} tok/s | of peak | decode {result['generate']} tok/s | of bandwidth | moe-run / it |"
    yield "|---|---|---|---|---|---|"
    for name, engine in result["engines"].items():
        prefill, decode = engine["prefill_tokens_per_second"], engine["decode_tokens_per_second"]
        ratio = result["ratio_of_moe_run"].get(name)
        yield (f"| {name} | {prefill['median']:.0f} [{prefill['min']:.0f}-{prefill['max']:.0f}] | {engine['share_of_peak']:.0%} | "
               f"{decode['median']:.1f} [{decode['min']:.1f}-{decode['max']:.1f}] | {engine['share_of_bandwidth']:.0%} | "
               + (f"prefill {ratio['prefill']:.2f}x, decode {ratio['decode']:.2f}x |" if ratio else "|"))
    tokens = {name: engine["tokens"] for name, engine in result["engines"].items()}
    if len(tokens) > 1:
        first = next(iter(tokens))
        same = {name: sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(tokens[first], other)))
                for name, other in tokens.items() if name != first}
        yield f"greedy tokens equal to those of {first}, from the first on: " + ", ".join(f"{n} {c}" for n, c in same.items())
    for name, reason in result["missing"].items():
        yield f"not measured: {name}: {reason}"
    if result["load_average"] > result["threads"] + 1.5:
        yield f"warning: load average {result['load_average']:.1f}: other work disturbed this run"


def main():
    names = ["moe-run", "torch-eager", "torch-compile", "llama.cpp"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=pathlib.Path, default=CACHE / "SmolLM2-135M-Instruct", help="Hugging Face directory")
    parser.add_argument("--cache", type=pathlib.Path, help="folder of the model's GGUF (default: beside the model)")
    parser.add_argument("--bin", type=pathlib.Path, default=ROOT / "build/bin", help="folder of moec, moe-run, bench-*")
    parser.add_argument("--python", default=sys.executable, help="Python that can import the peers")
    parser.add_argument("--engines", nargs="+", default=names, choices=names)
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--generate", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", type=pathlib.Path, help="write the report here")
    args = parser.parse_args()
    args.cache = args.cache or args.model.parent
    if not (args.model / "config.json").exists():
        sys.exit(f"bench/run.py: no model at {args.model}; examples/smollm2/convert.py makes it, or give --model DIR")

    vocabulary = json.loads((args.model / "config.json").read_text())["vocab_size"]
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        ids_file = scratch / "ids.json"
        ids = random.Random(1).choices(range(3, vocabulary), k=args.prompt)
        ids_file.write_text(json.dumps(ids))
        before = machine(args)
        engines, missing = start_engines(args, ids, ids_file, scratch)
        rounds = {name: [] for name in engines}
        for repeat in range(args.repeats):
            for name, engine in engines.items():
                print(f"round {repeat + 1} of {args.repeats}: {name}", file=sys.stderr)
                rounds[name].append(engine.measure())
        for engine in engines.values():
            engine.close()
        result = report(args, engines, missing, rounds, before, machine(args))
    print("\n".join(table(result)))
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0 if result["engines"] else 1


if __name__ == "__main__":
    sys.exit(main())
