"""The stages of bench/gpu.sh: correctness first, then times. Each returns what run.py keeps as JSON.

A stage is a function of a Bench. It asks `bench.item(key, make)` for each of its parts, which are kept one by one, so that
a stage that ran out of time goes on where it stopped. Wrong results raise Wrong; what is not there raises Absent.
"""

import array
import json
import lzma
import os
import pathlib
import random

import floors
import shapes


class Wrong(Exception):
    pass


class Absent(Exception):
    pass


def kernels(bench):
    """Every kernel on the device, in every case of its unit tests (bench/gpu/Replay.cpp), a slice of them at a time, so that
    those are kept that were done when time was over."""
    seen, failures, refused = {}, [], {}
    slices = shapes.KERNEL_SLICES[bench.size]
    for path in sorted((bench.pack / "kernels").glob("*.launches.xz")):
        # Of this pack: a stage of another one may have left its own.
        plain = bench.out / f"{bench.facts['commit']}-{bench.facts['made']}-{path.name[:-3]}"

        def replay(number):
            if not plain.exists():
                bench.replace(plain, lzma.decompress(path.read_bytes()))
            return bench.json([bench.bin / "bench-gpu", *bench.emulator, "replay", "--slice", f"{number}/{slices}", plain], fails=True)

        target, kernels, cases = path.name.split(".")[0], set(), 0
        for number in range(slices):
            result = bench.item(f"{target} {number + 1}/{slices}", lambda: replay(number))
            if "refused" in result:
                refused[target] = result["refused"]
                break
            failures += [f"{target}: {text}" for text in result["failures"]]
            if result.get("findings"):
                failures.append(f"{target}: {result['findings']} findings")
            kernels.update(kernel["kernel"] for kernel in result["kernels"])
            cases += sum(kernel["cases"] for kernel in result["kernels"])
        plain.unlink(missing_ok=True)
        if target not in refused:
            seen[target] = {"kernels": len(kernels), "cases": cases}
    if failures:
        raise Wrong(f"{len(failures)} launches are wrong; " + "; ".join(failures[:3]))
    if not seen:
        raise Wrong("; ".join(f"{target}: {why}" for target, why in refused.items()) or "no launch was recorded")
    return {"targets": seen, **({"refused": refused} if refused else {})}


def compare(bench, package, weights, ids, *tolerance):
    """Logits on the device and on this CPU; what compare_logits.py says of them."""
    listed = bench.out / "ids.json"
    listed.write_text(json.dumps(ids))
    weights = ["--weights", weights] if weights else []
    files = {}
    for suffix, device in (("-cpu", ["--device", "cpu"]), ("", bench.device)):
        files[suffix] = bench.out / f"logits{suffix}.npy"
        bench.call([bench.bin / "moe-run", "logits", bench.packages / f"{package}{suffix}", *weights, *device, "--ids-file", listed,
                    "-o", files[suffix], "--quiet", "--cache", bench.out / f"cache/{package}{suffix}"])
    done = bench.call([bench.python, bench.pack / "gpu/compare_logits.py", files["-cpu"], files[""], *tolerance], fails=True)
    for path in files.values():
        path.unlink()
    if done.returncode != 0:
        raise Wrong(f"{package}: {done.stdout} {done.stderr}")
    return done.stdout.split("\n")


EXACT = ("--max", "2e-4")
ROUNDED = ("--kl-mean", "1e-3", "--kl-max", "2e-2")


def random_tokens(count, vocabulary):
    """`count` ids, which the first two of a vocabulary, its special tokens, are not among."""
    return random.Random(7).choices(range(2, vocabulary), k=count)


def models(bench):
    """Whole-model logits of the bundled models against the CPU's, and greedy text as graphs, launch by launch and kernel after kernel."""
    ids = [[40, 7, 1100, 9], [77]]
    if bench.size == "full":
        ids = [random_tokens(150, 2048), *ids, [5]]
    result = {}
    for model in shapes.BUNDLED[bench.size]:
        for dtype, tolerance in (("f32", EXACT), ("bf16", ROUNDED)):
            package = f"{model}-{dtype}"
            if (bench.packages / package).exists():
                result[package] = bench.item(package, lambda: compare(bench, package, bench.pack / "models" / model, ids, *tolerance))

        def text(model=model):
            command = [bench.bin / "moe-run", "generate", bench.packages / f"{model}-bf16", *bench.device, "--quiet", "--json",
                       "--weights", bench.pack / "models" / model, "--ids", "5,17,300", "--ignore-eos", "--temperature", "0",
                       "--max-new", "100" if bench.size == "full" else "3"]
            graphs = bench.json(command)["ids"]
            for way, extra in (("launch by launch", "--no-graphs"), ("kernel after kernel", "--no-dependent-launch")):
                other = bench.json([*command, extra])["ids"]
                if graphs != other:
                    raise Wrong(f"{model}: as graphs the text is {graphs}, {way} {other}")
            return len(graphs)

        result[model + " text"] = bench.item(model + " text", text)
    return result


def make_weights(bench, name):
    """A checkpoint of random weights: normal, of variance 1/K; norms 1; embeddings of variance 1. Never zeros: a card is
    faster on them."""
    kept, folder = bench.pack / "weights" / name, bench.out / "weights" / name
    if (folder / "done").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_bytes((kept / "config.json").read_bytes())
    header = (kept / "header").read_bytes()
    tensors = {name: facts for name, facts in json.loads(header[8:]).items() if name != "__metadata__"}
    generator = random.Random(1)
    count = 262139 if bench.size == "full" else 4093  # a prime, so that rows differ
    normal = [generator.gauss(0, 1) for _ in range(count)]
    pools = {}

    def pool(scale):
        if scale not in pools:
            # bf16 is the upper half of f32 (rounded down, which random numbers may be).
            halves = array.array("H", array.array("f", [scale * value for value in normal]).tobytes())[1::2]
            pools[scale] = halves.tobytes()
        return pools[scale]

    with open(folder / "model.safetensors", "wb") as file:
        file.write(header)
        for name, facts in sorted(tensors.items(), key=lambda item: item[1]["data_offsets"][0]):
            begin, end = facts["data_offsets"]
            if len(facts["shape"]) == 1:
                file.write(b"\x80\x3f" * ((end - begin) // 2))
                continue
            data = pool(1.0 if "embed" in name else facts["shape"][-1] ** -0.5)
            left, at = end - begin, 2 * generator.randrange(count)
            while left > 0:
                piece = data[at:at + left]
                file.write(piece)
                left, at = left - len(piece), 0
    (folder / "done").touch()
    return folder


def layers(bench):
    """Layers of published shapes with random weights: logits against the CPU's."""
    tokens = shapes.LAYER_TOKENS[bench.size]
    result = {}
    for name in shapes.LAYERS[bench.size]:
        bench.item(f"{name} weights", lambda: str(make_weights(bench, name)))
        ids = [random_tokens(tokens, shapes.LAYER_VOCABULARY[bench.size]), [7]]
        # A choice of experts may be as close as the rounding of bf16, and then falls otherwise: the mean has to be small.
        result[name] = bench.item(name, lambda: compare(bench, name, make_weights(bench, name), ids, "--kl-mean", "2e-3", "--kl-max", "5e-2"))
    return result


def ceilings(bench):
    """What the card can do: reading, and a product of N^3 by ours and by torch."""
    read = bench.item("read", lambda: bench.json([bench.bin / "bench-gpu", *bench.emulator, "read",
                                                  *(("8192", "20") if bench.size == "full" else ("1", "1"))]))
    gemm = bench.item("gemm", lambda: steps(bench, "gemm", "gemm", [shapes.GEMM[bench.size]], ["--all-rows"])[0])
    n = shapes.GEMM[bench.size]
    product = [command for command in gemm["commands"] if command["name"].startswith("linear") and command["words"][1] == n
               and command["words"][4] == n]
    peer = bench.item("torch gemm", lambda: bench.peer("gemm", "--size", n))
    ours = 2 * n**3 / (1e-6 * product[-1]["us"]) if product[-1]["us"] else 0
    return {"read_bytes_per_second": read["bytes_per_second"], "size": n, "ours_flops": ours, "torch": peer,
            "device": read["device"]}


def machine(bench):
    """The ceilings that floors are made of: the best that was measured here."""
    found = bench.result("ceilings")
    return {"bytes_per_second": found["read_bytes_per_second"], "flops": max(found["ours_flops"], found["torch"].get("flops", 0))}


def steps(bench, package, weights, tokens, options):
    command = [bench.bin / "bench-gpu", *bench.emulator, "steps", bench.packages / package, "--weights", make_weights(bench, weights),
               "--cache", bench.out / f"cache/{package}", "--repeat", 50 if bench.size == "full" else 1, *options]
    command += [option for count in tokens for option in ("--tokens", count)]
    result = bench.json(command)
    if result.get("findings"):
        raise Wrong(f"{package}: {result['findings']} findings")
    return result["steps"]


def measured_layers(bench):
    for name, (_, _, tokens) in shapes.LAYERS[bench.size].items():
        for count in tokens:
            key = f"{name} {count}"
            yield name, count, bench.item(key, lambda: steps(bench, name, name, [count], ["--piece", *shapes.MOE_PIECE])[0])


def kernel_times(bench):
    """Each kernel of steps of the random layers, against its floor."""
    result, limits = {}, machine(bench)
    for name, count, step in measured_layers(bench):
        kernels = {}
        for command, floor in zip(step["commands"], floors.of_step(step, limits)):
            kernel = kernels.setdefault(command["name"], {"launches": 0, "us": 0.0, "floor_us": 0.0})
            kernel["launches"] += 1
            kernel["us"] += command["us"]
            kernel["floor_us"] = None if floor is None else kernel["floor_us"] + floor
        result[f"{name} {count}"] = {"step_us": step["step_us"], "kernels": kernels}
    return result


def config_of(bench, name):
    config = json.loads((bench.pack / "weights" / name / "config.json").read_text())
    return {"hidden": config["hidden_size"], "width": config["intermediate_size"], "experts": config["num_local_experts"],
            "top_k": config["num_experts_per_tok"], "layers": config["num_hidden_layers"]}


PEERS = ("grouped_mm", "batched_mm", "triton")


def moe(bench):
    """The MoE layer, from x to y, beside PyTorch and a Triton kernel of our own; each against the floor of its own routing."""
    result, limits = {}, machine(bench)
    for name, (_, _, tokens) in shapes.LAYERS[bench.size].items():
        shape = config_of(bench, name)
        own = bench.result("kernels against floors", "items")
        for count in tokens:
            step = own[f"{name} {count}"]
            sizes = {key: shape[key] for key in ("hidden", "width", "experts", "top_k")}
            floor = [floors.moe_layer(active=sum(c > 0 for c in counts), tokens=count, machine=limits, **sizes) for counts in step["experts"]]
            pieces = [piece["us"] for piece in step["pieces"] if piece["name"] == "moe"]
            row = {"ours": {"us": sum(pieces) / len(pieces), "floor_us": sum(floor) / len(floor)}}
            for peer in PEERS:
                found = bench.item(f"{name} {count} {peer}", lambda: bench.peer(peer, "--tokens", count, "--layers", shape["layers"],
                                                                                *(f"--{key.replace('_', '-')}={value}" for key, value in sizes.items())))
                if "us" in found:
                    found["floor_us"] = floors.moe_layer(active=found["active"], tokens=count, machine=limits, **sizes)
                row[peer] = found
            result[f"{name} {count}"] = row
    return result


def decode(bench):
    """Decoding of the bundled models, with graphs and without, and with kernels that start when the one before has ended."""
    if bench.is_emulator:
        raise Absent("the emulator does not say how fast anything is")
    result = {}
    for model in shapes.BUNDLED[bench.size]:
        for label, extra in (("graphs", []), ("launches", ["--no-graphs"]), ("in turn", ["--no-dependent-launch"])):
            def measure():
                return bench.json([bench.bin / "moe-run", "bench", bench.packages / f"{model}-bf16", *bench.device, "--weights",
                                   bench.pack / "models" / model, "--json", "--quiet", "--prompt-length", "128", "--generate", "256", *extra])

            found = bench.item(f"{model} {label}", measure)
            result[f"{model} {label}"] = found["decode_tokens_per_second"]["median"]
    return result


def fusion(bench):
    """n FFNs that are one against the same n in turn: the FFNs of a whole step, with their norms."""
    _, values, tokens, counts = shapes.FUSION[bench.size]
    result = {}
    for count in tokens:
        row = {}
        for length in (1, *counts):
            package = "fusion" + ("" if length == 1 else f"-{length}")
            step = bench.item(f"{package} {count}", lambda: steps(bench, package, "fusion", [count], ["--piece", *shapes.FFN_PIECE])[0])
            pieces = [piece["us"] for piece in step["pieces"]]
            if len(pieces) != values["num_hidden_layers"] // length:
                raise Wrong(f"{package}: {len(pieces)} FFNs, must be {values['num_hidden_layers'] // length}")
            row[str(length)] = {"ffns_us": sum(pieces), "step_us": step["step_us"]}
        result[str(count)] = row
    return result


STAGES = [("kernels are right", kernels), ("models are right", models), ("layers are right", layers), ("ceilings", ceilings),
          ("kernels against floors", kernel_times), ("MoE layer against peers", moe), ("decode", decode), ("fused FFNs", fusion)]
CORRECTNESS = 3
