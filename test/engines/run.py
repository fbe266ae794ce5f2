#!/usr/bin/env python3
"""Loads exports of fused models into unmodified engines and compares what they compute with moe-run: ./dev test --engines

    run.py --moec build/bin/moec --moe-run build/bin/moe-run --work DIR --json RESULT.json [--model DIR] [--only PART]
           [--plan FORM=FILE]... [--python llama.cpp=PYTHON]... [--skip ENGINE=REASON]...

For every case the model is fused by a plan, compiled (f32) and exported (f32). The engine gives logits or
log-probabilities of the same ids and greedy text; the export is imported again and its package gives logits. The plans
made here have no maps and are not chosen well: what is tested is that everybody computes the same model, not that it is
a good one. --plan gives one of your own, with maps for example, for the cases of a form; other forms are left out then.
Without --python an engine is skipped, and its cases say so. Needs numpy.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import time

import numpy

# Largest difference that passes, of logits (llama.cpp, transformers) or log-probabilities (vllm), all in f32.
# Sums of the same terms in other orders: 1e-5 to 1e-4 was measured on models of 16 and 30 layers, logits up to 30. A
# wrong head, width, rotation or missing scale shows as 0.1 or more. vllm's attention on CPUs keeps its cache in f32, but
# computes exp and silu by approximations of its own: it is given more.
# A fused model that has lost its way amplifies rounding beyond any such number: of SmolLM2 with layers 8 and 9 as a pair
# and no maps, logits of the second token are 0.017 off in transformers and 0.004 in moe-run, both in f32 beside the same
# weights in f64. Such a plan judges nobody; repaired ones and those of plan_for do not do that.
TOLERANCE = {"llama.cpp": 2e-4, "transformers": 2e-4, "vllm": 1e-3, "vllm-transformers": 1e-3}
# The export imported again. A directory holds the same numbers in the same order; a GGUF file has the rows of q and k in
# another one, so that the terms of their products are added in another order, in every layer: as if another engine did it.
AGAIN = {"directory": 0.0, "gguf": TOLERANCE["llama.cpp"]}
# KL, in nats, between the engine and moe-run on a pruned model, which nobody has trained since and which amplifies rounding
# (see above): 6e-13 and 1e-10 were measured, with logits of SmolLM2 up to 0.0005 apart. Another model is 0.01 or more away.
SAME_MODEL = 1e-6
# What Q8_0 may add to the KL of a fused model: 0.0002 to 0.005 was measured, 2 % of it or less; a quantiser that took
# the fused tensors for something else adds nats.
QUANTISED = {"nats": 0.005, "part": 0.05}

# (name, engine, --for, form)
CASES = [
    ("llama.cpp, P as GGUF", "llama.cpp", "llama.cpp", "P"),
    ("llama.cpp, R as GGUF", "llama.cpp", "llama.cpp", "R"),
    ("llama.cpp, pruned per layer, P as GGUF, Q8_0", "llama.cpp", "llama.cpp", "P"),
    ("transformers, P", "transformers", "transformers", "P"),
    ("transformers, P, distilled", "transformers", "transformers", "P"),
    ("vLLM natively, D", "vllm", "vllm", "D"),
    ("vLLM natively, R", "vllm", "vllm", "R"),
    ("vLLM by its Transformers backend, P", "vllm-transformers", "vllm", "P"),
]
NEW_TOKENS = 16
# Bytes of weights above which no model is trained here: minutes for nothing that a small one does not show.
MOST_TRAINED = 64 << 20


class Failure(Exception):
    """A case that failed, with the reason."""


def run(command, what):
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        lines = done.stdout.strip().splitlines()
        raise Failure(f"{what}: exit status {done.returncode}: " + " | ".join(lines[-3:]))
    return done.stdout


def plan_for(layers, form):
    """Three pairs and one window of three, in parts of the depth where a model bears it without repair (see TOLERANCE). Of 30
    layers: 13-14, 16-18, 20-21, 26-27."""
    windows, end = [], 0
    for place, length in ((13, 2), (16, 3), (20, 2), (26, 2)):
        first = max(end, round(layers * place / 30))
        if first + length <= layers:
            windows.append({"first": first, "length": length, "form": form})
            end = first + length
    return {"format": "moe-fusion-plan", "version": 1, "layers": layers, "windows": windows}


def log_softmax(logits):
    shifted = logits.astype(numpy.float64) - logits.max(-1, keepdims=True)
    return shifted - numpy.log(numpy.exp(shifted).sum(-1, keepdims=True))


def rows_of(result):
    """The logits of an answer, a row for every position."""
    return numpy.concatenate([numpy.asarray(rows, numpy.float32) for rows in result["logits"]])


def mean_kl(wanted, given):
    """KL(wanted || given) in nats, mean over the rows."""
    wanted, given = log_softmax(wanted), log_softmax(given)
    return float((numpy.exp(wanted) * (wanted - given)).sum(-1).mean())


class Suite:
    def __init__(self, args):
        self.args = args
        self.model = args.model.resolve()
        self.config = json.loads((self.model / "config.json").read_text())
        self.packages = {}

    def package(self, source, name, *options):
        """Compiles `source` to a package in f32; its logits of the request's sequences, one after the other."""
        folder = self.args.work / name
        run([self.args.moec, "compile", source, "-o", folder, "--dtype", "f32", "--target", "cpu:host", "--quiet", *options],
            "moec compile")
        out = self.args.work / f"{name}.npy"
        run([self.args.moe_run, "logits", folder, "--ids-file", self.args.work / "ids.json", "-o", out, "--quiet"], "moe-run logits")
        return folder, numpy.load(out)

    def make_request(self):
        """Text of the model's own, so that no text has to be kept: sampled, and so neither random ids nor a loop."""
        folder = self.args.work / "parent"
        run([self.args.moec, "compile", self.model, "-o", folder, "--target", "cpu:host", "--quiet"], "moec compile")
        sequences = []
        for seed in (1, 2):
            out = run([self.args.moe_run, "generate", folder, "--ids", str(5 + seed), "--max-new", "95", "--temperature", "1", "--seed",
                       str(seed), "--ignore-eos", "--json", "--quiet"], "moe-run generate")
            sequences.append([5 + seed] + json.loads(out)["ids"])
        self.request = {"sequences": sequences, "prompt": sequences[0][:24], "new": NEW_TOKENS}
        (self.args.work / "ids.json").write_text(json.dumps(sequences))
        (self.args.work / "request.json").write_text(json.dumps(self.request))

    def fused(self, form):
        """(plan file, logits, greedy ids) of the fused model, computed once for all engines."""
        if form not in self.packages:
            plan = self.args.plan.get(form)
            if plan is None:
                plan = self.args.work / f"plan-{form}.json"
                plan.write_text(json.dumps(plan_for(self.config["num_hidden_layers"], form)))
            folder, logits = self.package(self.model, f"fused-{form}", "--plan", plan)
            self.packages[form] = plan, logits, self.continued(folder)
        return self.packages[form]

    def continued(self, folder):
        """The greedy continuation of the request's prompt."""
        ids = ",".join(map(str, self.request["prompt"]))
        out = run([self.args.moe_run, "generate", folder, "--ids", ids, "--max-new", NEW_TOKENS, "--temperature", "0",
                   "--ignore-eos", "--json", "--quiet"], "moe-run generate")
        return json.loads(out)["ids"]

    def case(self, name, engine, wanted, form):
        if "pruned" in name:
            return self.pruned(engine, form)
        plan, logits, greedy = self.fused(form)
        is_gguf = wanted == "llama.cpp"
        stem = f"{wanted}-{form}"
        export = self.args.work / (stem + ".gguf" if is_gguf else stem)
        if not export.exists():
            run([self.args.moec, "export", self.model, "--plan", plan, "--for", wanted, "-o", export, "--dtype", "f32", "--quiet"],
                "moec export")
        if name.endswith("distilled"):
            return self.distilled(engine, export)
        _, again = self.package(export, f"again-{stem}")
        limit = AGAIN["gguf" if is_gguf else "directory"]
        difference = float(numpy.abs(again - logits).max())
        if not difference <= limit:
            raise Failure(f"imported again its logits differ by {difference:.3g}, at most {limit:g} is allowed")
        result = self.ask(engine, export)
        note = self.judge(engine, result, logits, greedy)
        return f"{note}; imported again {difference:.2g}; version {result['version']}"

    def pruned(self, engine, form):
        """Fusion composes: pruned per layer before, quantised by llama.cpp after. KL is from the pruned model."""
        source = self.args.work / "pruned"
        run([self.args.python[engine], pathlib.Path(__file__).parent / "prune.py", self.model, source], "prune.py")
        plan = self.args.work / "plan-pruned.json"
        plan.write_text(json.dumps(plan_for(self.config["num_hidden_layers"], form)))
        _, before = self.package(source, "pruned-whole")
        folder, logits = self.package(source, "pruned-fused", "--plan", plan)
        export = self.args.work / "pruned.gguf"
        run([self.args.moec, "export", source, "--plan", plan, "--for", "llama.cpp", "-o", export, "--dtype", "f32", "--quiet"],
            "moec export")
        result = self.ask(engine, export)
        ours, greedy = mean_kl(logits, rows_of(result)), self.continued(folder)
        if not ours <= SAME_MODEL or result["greedy"] != greedy:
            raise Failure(f"KL of the engine is {ours:.3g}, at most {SAME_MODEL:g} is allowed; greedy ids {result['greedy']} and {greedy}")
        fused, quantised = mean_kl(before, logits), mean_kl(before, rows_of(self.ask(engine + "-q8_0", export)))
        if not abs(quantised - fused) <= QUANTISED["nats"] + QUANTISED["part"] * fused:
            raise Failure(f"KL {fused:.4f} becomes {quantised:.4f} when quantised")
        return f"KL of the engine {ours:.2g}, greedy text equal; KL from the pruned model {fused:.4f}, {quantised:.4f} after Q8_0"

    def ask(self, engine, export):
        """The engine's answer."""
        answer = self.args.work / "answer.json"
        answer.unlink(missing_ok=True)
        run([self.args.python[engine.split("-")[0]], pathlib.Path(__file__).parent / "drive.py", engine, export,
             self.args.work / "request.json", answer], engine)
        return json.loads(answer.read_text())

    def distilled(self, engine, export):
        """A few steps of examples/distill on the export: KL falls, and the result is read by both sides."""
        out = self.args.work / "distilled"
        script = pathlib.Path(__file__).parent.parent.parent / "examples/distill/distill.py"
        printed = run([self.args.python[engine], script, "train", self.model, export, "-o", out, "--steps", 8, "--sequences", 32,
                       "--held-out", 8, "--batch", 4], "distill.py")
        facts = json.loads(printed.strip().splitlines()[-1])
        before, after = facts["before"]["kl"], facts["after"]["kl"]
        if not after < before:
            raise Failure(f"KL was {before:.4f} and is {after:.4f} after 8 steps")
        folder, logits = self.package(out, "again-distilled")
        note = self.judge(engine, self.ask(engine, out), logits, self.continued(folder))
        return f"KL {before:.3f}, {after:.3f} after 8 steps; {note}"

    def judge(self, engine, result, logits, greedy):
        """Compares; the parts of the note."""
        if "logits" in result:
            given = rows_of(result)
            wanted, what = logits, "logits"
        else:
            given = numpy.concatenate([numpy.asarray(row) for row in result["logprobs"]])
            rows, at = [], 0
            for ids in self.request["sequences"]:
                rows.append(log_softmax(logits[at:at + len(ids)])[numpy.arange(len(ids) - 1), ids[1:]])
                at += len(ids)
            wanted, what = numpy.concatenate(rows), "log-probabilities"
        if given.shape != wanted.shape:
            raise Failure(f"{what} have shape {given.shape}, not {wanted.shape}")
        difference = float(numpy.abs(given - wanted).max())
        # A NaN compares as false.
        if not difference <= TOLERANCE[engine]:
            raise Failure(f"{what} differ by {difference:.3g}, at most {TOLERANCE[engine]:g} is allowed")
        if result["greedy"] != greedy:
            raise Failure(f"greedy ids {result['greedy']} are not {greedy}")
        return f"{what} differ by {difference:.2g}, greedy text equal"


def main():
    root = pathlib.Path(__file__).resolve().parent.parent.parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moec", type=pathlib.Path, default=root / "build/bin/moec")
    parser.add_argument("--moe-run", type=pathlib.Path, default=root / "build/bin/moe-run")
    parser.add_argument("--work", type=pathlib.Path, required=True, help="folder for exports and packages")
    parser.add_argument("--json", type=pathlib.Path, required=True)
    parser.add_argument("--model", type=pathlib.Path, default=root / "examples/models/tiny-llama")
    parser.add_argument("--only", default="", help="cases with this in the name")
    parser.add_argument("--plan", action="append", default=[], metavar="FORM=FILE", help="fuse by this plan")
    parser.add_argument("--python", action="append", default=[], metavar="ENGINE=PYTHON")
    parser.add_argument("--skip", action="append", default=[], metavar="ENGINE=REASON")
    args = parser.parse_args()
    args.plan = {form: pathlib.Path(file).resolve() for form, file in (item.split("=", 1) for item in args.plan)}
    args.python = dict(item.split("=", 1) for item in args.python)
    skip = dict(item.split("=", 1) for item in args.skip)
    args.work.mkdir(parents=True, exist_ok=True)
    suite, results, failed = Suite(args), [], 0
    suite.make_request()
    for name, engine, wanted, form in CASES:
        if args.only not in name or (args.plan and form not in args.plan):
            continue
        begun, result = time.time(), {"name": f"{args.model.name}: {name}"}
        family = engine.split("-")[0]
        weights = sum(path.stat().st_size for path in args.model.glob("*.safetensors"))
        if name.endswith("distilled") and weights > MOST_TRAINED:
            result |= {"status": "skipped", "reason": f"{weights >> 20} MiB of weights are not trained here; the bundled model is"}
        elif family not in args.python:
            result |= {"status": "skipped", "reason": skip.get(family, "no --python for this engine")}
        else:
            try:
                result |= {"status": "passed", "note": suite.case(name, engine, wanted, form)}
            except Failure as failure:
                result |= {"status": "failed", "reason": str(failure)}
                failed += 1
        results.append(result)
        print(f"{result['status']:8} {result['name']}: {result.get('note') or result['reason']} ({time.time() - begun:.0f} s)", flush=True)
    args.json.write_text(json.dumps({"cases": results}, indent=1) + "\n")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
