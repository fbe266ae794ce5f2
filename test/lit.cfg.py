"""The lit suites: `lit-22 build/test`, one folder with `lit-22 build/test/dialects`, or `ninja -C build check-moe`.

Substitutions: %python (MOE_PYTHON, else the Python that runs lit), %source_root, %examples, %build_root, %shlibext.
Features: compiler; mpirun; ptxas; iree, torch, transformers (importable by %python); avx2, avx512, avx512bf16, amx of this CPU.
"""

import os
import shutil
import subprocess
import sys

import lit.formats

config.name = "moe"
config.test_format = lit.formats.ShTest(execute_external=False)
config.suffixes = [".mlir", ".test"]
config.excludes = ["Inputs", "inputs", "golden", "consumer"]
config.test_source_root = os.path.join(config.moe_source_root, "test")
config.test_exec_root = os.path.join(config.moe_build_root, "test")

bin_dir = os.path.join(config.moe_build_root, "bin")
config.environment["PATH"] = os.pathsep.join([bin_dir, config.llvm_tools_dir, os.environ.get("PATH", "")])
config.environment["FILECHECK_OPTS"] = "-enable-var-scope"
for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS", "HOME", "XDG_CACHE_HOME", "MOE_PYTHON"):
    if name in os.environ:
        config.environment[name] = os.environ[name]

python = os.environ.get("MOE_PYTHON", sys.executable)
config.substitutions += [
    ("%python", python),
    ("%source_root", config.moe_source_root),
    ("%build_root", config.moe_build_root),
    ("%examples", os.path.join(config.moe_source_root, "examples")),
    ("%shlibext", config.shlibext),
]
# The distribution installs the LLVM tools with a version suffix; an LLVM of the user's own has the bare names.
for tool in ("FileCheck", "mlir-opt", "mlir-runner", "mlir-translate", "not"):
    if not shutil.which(f"{tool}-22", path=config.environment["PATH"]):
        config.substitutions.append((rf"\b{tool}-22\b", os.path.join(config.llvm_tools_dir, tool)))

if config.moe_build_compiler:
    config.available_features.add("compiler")


def importable(*modules):
    """Whether %python finds all of `modules`, without running them."""
    probe = "import importlib.util as u, sys; sys.exit(any(u.find_spec(m) is None for m in sys.argv[1:]))"
    return subprocess.run([python, "-c", probe, *modules], stderr=subprocess.DEVNULL).returncode == 0


for feature, modules in {
    "iree": ("iree.compiler", "iree.runtime"),
    "numpy": ("numpy",),
    "torch": ("torch",),
    "transformers": ("torch", "transformers"),
}.items():
    if importable(*modules):
        config.available_features.add(feature)

if shutil.which("mpirun") and os.path.exists(os.path.join(config.moe_build_root, "lib", "libmoert-mpi.so")):
    config.available_features.add("mpirun")

if shutil.which("ptxas", path=config.environment["PATH"]):
    config.available_features.add("ptxas")

with open("/proc/cpuinfo") as cpuinfo:
    flags = next((set(line.split(":")[1].split()) for line in cpuinfo if line.startswith("flags")), set())
for feature, needs in {
    "avx2": {"avx2", "fma", "f16c"},
    "avx512": {"avx512f", "avx512bw", "avx512dq", "avx512vl"},
    "avx512bf16": {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_bf16"},
    "amx": {"amx_tile", "amx_bf16"},
}.items():
    if needs <= flags:
        config.available_features.add(feature)
