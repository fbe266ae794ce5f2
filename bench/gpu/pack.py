#!/usr/bin/env python3
"""Makes the folder that bench/gpu.sh carries to a machine with a GPU: everything it needs and cannot build there.

Programs (moe-run, bench-gpu) with the libraries they link, the bundled models, packages that moec compiled here, recorded
launches of the kernels' tests, these scripts, and of the random layers only headers: weights are made where they are used.
At most 64 MiB.
"""

import argparse
import datetime
import json
import lzma
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile

import shapes

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
LIMIT = 64 << 20


def call(command, **options):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, **options)
    if done.returncode != 0:
        sys.exit(f"pack: {' '.join(map(str, command))} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def copy_programs(build, pack):
    """Programs, and every library they link with its own name; those of the C library apart, for machines whose is older."""
    for folder in ("bin", "lib/libc", "lib/emulator", "packages"):
        (pack / folder).mkdir(parents=True)
    libraries = {}
    for program in ("moe-run", "bench-gpu"):
        shutil.copy2(build / "bin" / program, pack / "bin")
        for line in call(["ldd", build / "bin" / program]).splitlines():
            words = line.split()
            if "=>" in words and words[2].startswith("/"):
                libraries[words[0]] = words[2]
            elif words[0].startswith("/"):
                libraries[pathlib.Path(words[0]).name] = words[0]
    own = ("libc.so", "libm.so", "libdl.so", "libpthread.so", "librt.so", "ld-linux")
    # NVIDIA's driver asks for these too; those of an older C library do not go with this one.
    system = pathlib.Path(libraries["libc.so.6"]).parent
    libraries.update({name: str(system / name) for name in ("libdl.so.2", "libpthread.so.0", "librt.so.1") if (system / name).exists()})
    for name, path in libraries.items():
        shutil.copy2(os.path.realpath(path), pack / "lib" / ("libc" if name.startswith(own) else "") / name)
    shutil.copy2(os.path.realpath(build / "lib/emulator/libcuda.so.1"), pack / "lib/emulator/libcuda.so.1")
    if shutil.which("strip"):
        for path in [*pack.glob("bin/*"), *pack.glob("lib/*.so*"), *pack.glob("lib/emulator/*")]:
            call(["strip", "--strip-unneeded", path])


def compile_package(build, model, out, target, *options):
    call([build / "bin/moec", "compile", model, "-o", out, "--target", target, "--quiet", *options])


def record_kernels(build, pack, size):
    (pack / "kernels").mkdir()
    program = build / "test/bin/gpu-kernels-test"
    for target, (card, tests) in shapes.KERNEL_TARGETS.items():
        path = pack / f"kernels/{target}.launches"
        if size == "small":
            tests = shapes.SMALL_KERNEL_TESTS
        environment = {**os.environ, "MOE_EMU_DEVICE": card, "MOE_EMU_LOG": "off", "MOE_EMU_UNDEFINED_COPIES": "finding"}
        call([program, f"--gtest_filter={tests}", f"--record={path}"], env=environment)
        path.with_suffix(".launches.xz").write_bytes(lzma.compress(path.read_bytes()))
        path.unlink()


class Checkpoint:
    """A checkpoint without weights (sparse), and what of it the pack keeps."""

    def __init__(self, folder, preset, values):
        self.folder = folder
        options = [option for key, value in values.items() for option in ("--model", f"{key}={json.dumps(value)}")]
        call([sys.executable, ROOT / "test/tools/make_checkpoint.py", folder, "--preset", preset, "--shard-bytes", 1 << 40, *options])
        index = folder / "model.safetensors.index.json"
        if index.exists():  # one shard is one file
            index.unlink()
            next(folder.glob("model-*.safetensors")).rename(folder / "model.safetensors")

    def keep(self, pack, name):
        target = pack / "weights" / name
        target.mkdir(parents=True)
        shutil.copy2(self.folder / "config.json", target)
        with open(self.folder / "model.safetensors", "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            file.seek(0)
            (target / "header").write_bytes(file.read(8 + length))


def cpu_target(size):
    """Logits are compared with those of the other machine's CPU, whatever it is; the dry run's is this one."""
    return "cpu" if size == "full" else "cpu:host"


def add_random(build, pack, name, preset, values, tokens, plans, cpu):
    with tempfile.TemporaryDirectory() as scratch:
        checkpoint = Checkpoint(pathlib.Path(scratch) / name, preset, values)
        checkpoint.keep(pack, name)
        options = ["--dtype", "bf16", "--max-tokens", tokens]
        for suffix, plan in plans.items():
            extra = []
            if plan:
                (pathlib.Path(scratch) / "plan.json").write_text(json.dumps(plan))
                extra = ["--plan", pathlib.Path(scratch) / "plan.json"]
            compile_package(build, checkpoint.folder, pack / f"packages/{name}{suffix}", "cuda:sm_90a", *options, *extra)
        if cpu:
            compile_package(build, checkpoint.folder, pack / f"packages/{name}-cpu", cpu, *options)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=pathlib.Path, default=ROOT / "build/gpu-pack", help="default: build/gpu-pack")
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build", help="where the programs were built")
    parser.add_argument("--small", action="store_true", help="for the dry run")
    args = parser.parse_args()
    size = "small" if args.small else "full"
    build = args.build.resolve()
    pack = args.out.with_name(args.out.name + ".unfinished")
    shutil.rmtree(pack, ignore_errors=True)
    pack.mkdir(parents=True)

    copy_programs(build, pack)
    record_kernels(build, pack, size)
    for model in shapes.BUNDLED[size]:
        shutil.copytree(ROOT / "examples/models" / model, pack / "models" / model)
        for dtype in ("f32", "bf16"):
            if size == "full" or dtype == "bf16":
                compile_package(build, pack / "models" / model, pack / f"packages/{model}-{dtype}", "cuda:sm_90a", "--dtype", dtype)
                compile_package(build, pack / "models" / model, pack / f"packages/{model}-{dtype}-cpu", cpu_target(size), "--dtype", dtype)
    for name, (preset, values, tokens) in shapes.LAYERS[size].items():
        add_random(build, pack, name, preset, values, max(tokens), {"": None}, cpu_target(size))
    preset, values, tokens, counts = shapes.FUSION[size]
    plans = {f"-{count}": shapes.plan(values["num_hidden_layers"], count) for count in counts}
    add_random(build, pack, "fusion", preset, values, max(tokens), {"": None, **plans}, None)
    preset, values = shapes.gemm_model(size)
    add_random(build, pack, "gemm", preset, values, shapes.GEMM[size], {"": None}, None)

    # Texts of kernels, mostly, of which a thirtieth is left.
    with tarfile.open(pack / "packages.tar.xz", "w:xz") as archive:
        archive.add(pack / "packages", "packages")
    shutil.rmtree(pack / "packages")

    (pack / "gpu").mkdir()
    for path in HERE.glob("*.py"):
        shutil.copy2(path, pack / "gpu")
    shutil.copy2(ROOT / "test/tools/compare_logits.py", pack / "gpu")
    shutil.copy2(ROOT / "bench/gpu.sh", pack)
    git = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty", "--abbrev=12"], capture_output=True, text=True)
    facts = {"commit": git.stdout.strip() or "unknown", "made": datetime.datetime.now().isoformat(timespec="minutes"), "size": size}
    (pack / "pack.json").write_text(json.dumps(facts, indent=1) + "\n")
    total = sum(path.stat().st_size for path in pack.rglob("*") if path.is_file())
    if total > LIMIT:
        sys.exit(f"pack: {pack} has {total:,} bytes, above the limit of {LIMIT:,}")
    shutil.rmtree(args.out, ignore_errors=True)
    pack.rename(args.out)
    print(f"{args.out}: {total / 2**20:.1f} MiB, size {size}, commit {facts['commit']}")


if __name__ == "__main__":
    main()
