#!/usr/bin/env python3
"""Installs the build tree, builds two outside projects against the installation, and runs them.

    run.py [--build build]

tool/  a C++ project on find_package(MoeMLIR COMPONENTS compiler): must count what is in the bundled Mixtral.
c/     a C project on find_package(MoeMLIR COMPONENTS runtime), with no MLIR to be found: must predict the ids that
       transformers predicts (the recorded logits of test/golden).
Also: a package found beside another version of MLIR is refused with both versions in the message, and the installed
plugin runs in the distribution's mlir-opt. Exit status 1 and the failing command's output if anything is wrong.
"""

import argparse
import ast
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
GOLDEN = ROOT / "test" / "golden" / "fixtures" / "bundled-tiny-mixtral"
CHECKPOINT = ROOT / "examples" / "models" / "tiny-mixtral"


def run(*command, expect=0, **options):
    """Output (both streams) of a command that must exit with `expect`."""
    result = subprocess.run(
        [str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **options
    )
    if (result.returncode == 0) != (expect == 0):
        sys.exit(f"{' '.join(map(str, command))}\n{result.stdout}\nexit status {result.returncode}, expected {expect}")
    return result.stdout


def require(condition, message):
    if not condition:
        sys.exit(f"run.py: {message}")


def read_cache(build, name):
    """A variable of the build tree's CMake cache."""
    for line in (build / "CMakeCache.txt").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return line.partition("=")[2]
    return ""


def recorded_winners():
    """(ids so far, likeliest next id) at the first two recorded places of the first recorded sequence."""
    ids = json.loads((GOLDEN / "ids.json").read_text())[0]
    rows = json.loads((GOLDEN / "meta.json").read_text())["rows"][:2]
    data = (GOLDEN / "logits.npy").read_bytes()
    (length,) = struct.unpack("<H", data[8:10])
    header = ast.literal_eval(data[10 : 10 + length].decode())
    require(header["descr"] == "<f4" and not header["fortran_order"], f"unexpected type of logits.npy: {header}")
    require(rows[-1] < len(ids), f"rows {rows} must lie in the first sequence of {len(ids)} ids")
    vocab = header["shape"][-1]
    for index, row in enumerate(rows):
        logits = struct.unpack_from(f"<{vocab}f", data, 10 + length + 4 * vocab * index)
        yield ids[: row + 1], logits.index(max(logits))


class Consumer:
    """An installation, and outside projects built against it."""

    def __init__(self, build, folder):
        self.build, self.folder, self.prefix = build, folder, folder / "prefix"
        self.compilers = [
            f"-DCMAKE_{language}_COMPILER={read_cache(build, f'CMAKE_{language}_COMPILER')}" for language in ("C", "CXX")
        ]
        run("cmake", "--install", build, "--prefix", self.prefix)
        # Nothing may be found in the source or the build tree: what is installed must suffice.
        self.environment = {name: value for name, value in os.environ.items() if name not in ("MLIR_DIR", "LLVM_DIR")}

    def configure(self, project, *options, expect=0):
        source, target = self.folder / "source" / project, self.folder / "build" / f"{project}{len(options)}"
        if not source.exists():
            shutil.copytree(HERE / project, source)
        command = ["cmake", "-G", "Ninja", "-S", source, "-B", target, f"-DCMAKE_PREFIX_PATH={self.prefix}"]
        return target, run(*command, *self.compilers, *options, expect=expect, env=self.environment)

    def make(self, project, *options):
        target, _ = self.configure(project, *options)
        run("cmake", "--build", target)
        return target

    def check_tool(self, model):
        tool = self.make("tool", f"-DMLIR_DIR={read_cache(self.build, 'MLIR_DIR')}") / "count-experts"
        text = run(tool, model)
        config = json.loads((CHECKPOINT / "config.json").read_text())
        layers, experts = config["num_hidden_layers"], config["num_local_experts"]
        expected = f" parameters, {layers} MoE layers, {layers * experts} experts\n"
        require(text.endswith(expected), f"count-experts says {text!r}, expected ...{expected!r}")
        broken = self.folder / "broken.mlir"
        broken.write_text("module {}\n")
        text = run(tool, broken, expect=1)
        require("@step" in text, f"the pass must refuse a module without @step, but said {text!r}")

    def check_version(self):
        """Beside an MLIR that says it is 21, the package must say so and stop."""
        other = self.folder / "other"
        other.mkdir()
        (other / "MLIRConfig.cmake").write_text('set(LLVM_VERSION_MAJOR 21)\nset(LLVM_PACKAGE_VERSION "21.1.0")\n')
        _, text = self.configure("tool", f"-DMLIR_DIR={other}", "-DOTHER=1", expect=1)
        text = " ".join(text.split())
        for part in ("built against MLIR/LLVM 22", "is 21.1.0"):
            require(part in text, f"the wrong MLIR must be refused with {part!r}, but:\n{text}")

    def check_runtime(self, package):
        program = self.make("c", "-DCMAKE_DISABLE_FIND_PACKAGE_MLIR=ON") / "next-token"
        for ids, winner in recorded_winners():
            text = run(program, package, *ids)
            require(text == f"{winner}\n", f"after {ids}: {text!r}, expected {winner}")
        text = run(program, self.folder / "none", 1, expect=1)
        require(text.startswith("next-token: "), f"a missing package must be said, but: {text!r}")

    def check_plugin(self, model):
        plugin = self.prefix / "lib" / "MoePlugin.so"
        mlir_opt = shutil.which("mlir-opt-22") or str(Path(read_cache(self.build, "MLIR_DIR")).parents[2] / "bin" / "mlir-opt")
        command = [mlir_opt, f"--load-dialect-plugin={plugin}", f"--load-pass-plugin={plugin}"]
        text = run(*command, "--pass-pipeline=builtin.module(moe-verify-moe-level)", model)
        require("moe.route" in text, f"mlir-opt with the plugin lost the model:\n{text[:2000]}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, default=ROOT / "build")
    build = parser.parse_args().build.resolve()
    with tempfile.TemporaryDirectory(prefix="moe-consumer-") as folder:
        consumer = Consumer(build, Path(folder))
        moec = consumer.prefix / "bin" / "moec"
        model, package = Path(folder) / "model.mlir", Path(folder) / "package"
        run(moec, "import", CHECKPOINT, "-o", model)
        consumer.check_tool(model)
        consumer.check_version()
        consumer.check_plugin(model)
        run(moec, "compile", CHECKPOINT, "-o", package, "--dtype", "f32")
        consumer.check_runtime(package)
    print("installed, built and ran a C++ tool, a C program and the plugin against the installation")
    return 0


if __name__ == "__main__":
    sys.exit(main())
