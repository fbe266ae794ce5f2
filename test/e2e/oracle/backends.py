"""Runs linalg text on arrays: with the distribution's LLVM tools, or with an installed IREE. Neither knows moe.

Native: mlir-opt bufferizes and lowers to LLVM, mlir-translate and clang make a shared object, ctypes calls it.
IREE: iree-compile and iree-run-module, unmodified, with inputs from files.
"""

import ctypes
import os
import shutil
import subprocess
import sys

import numpy as np

from signature import parse_signature
from tensors import STORAGE

PIPELINE = ("builtin.module(one-shot-bufferize{bufferize-function-boundaries "
            "function-boundary-type-conversion=identity-layout-map},"
            "func.func(llvm-request-c-wrappers),convert-linalg-to-loops,expand-strided-metadata,lower-affine,"
            "convert-scf-to-cf,arith-expand{include-bf16=true},convert-math-to-llvm,convert-math-to-libm,"
            "convert-to-llvm,reconcile-unrealized-casts)")


def tool(name):
    """An LLVM tool by its versioned or its bare name."""
    for candidate in (f"{name}-22", name):
        found = shutil.which(candidate) or shutil.which(candidate, path="/usr/lib/llvm-22/bin")
        if found:
            return found
    raise RuntimeError(f"{name}-22 is not installed: install mlir-22-tools and clang-22")


def execute(command, **options):
    done = subprocess.run(command, capture_output=True, **options)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))} failed ({done.returncode}):\n{done.stderr.decode(errors='replace')[-4000:]}")
    return done.stdout


def lower(path_or_text, moe_opt="moe-opt"):
    """moe text (or the path of it) to linalg text."""
    if os.path.exists(path_or_text):
        return execute([moe_opt, "--moe-to-linalg", path_or_text]).decode()
    return execute([moe_opt, "--moe-to-linalg"], input=path_or_text.encode()).decode()


class Native:
    """One function of a linalg module as a callable on arrays."""

    def __init__(self, text, folder, function="step"):
        self.arguments, self.results = parse_signature(text, function)
        llvm = execute([tool("mlir-opt"), f"--pass-pipeline={PIPELINE}"], input=text.encode())
        ir = execute([tool("mlir-translate"), "--mlir-to-llvmir"], input=llvm)
        library = os.path.join(folder, f"{function}.so")
        # memrefCopy, and only that, comes from MLIR's own run-time library.
        support = os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(tool("mlir-opt")))), "lib")
        execute([tool("clang"), "-x", "ir", "-", "-O1", "-fPIC", "-shared", "-Wno-override-module", "-o", library,
                 "-Wl,-Bsymbolic",  # libc has a function `step` of its own
                 f"-L{support}", f"-Wl,-rpath,{support}", "-lmlir_c_runner_utils", "-lm"], input=ir)
        self.function = getattr(ctypes.CDLL(os.path.abspath(library)), f"_mlir_ciface_{function}")
        self.function.restype = None

    @staticmethod
    def descriptor(rank):
        fields = [("allocated", ctypes.c_void_p), ("aligned", ctypes.c_void_p), ("offset", ctypes.c_int64),
                  ("sizes", ctypes.c_int64 * rank), ("strides", ctypes.c_int64 * rank)]
        return type(f"MemRef{rank}", (ctypes.Structure,), {"_fields_": fields})

    def __call__(self, arrays):
        kept, pointers = [], []
        for argument, array in zip(self.arguments, arrays, strict=True):
            # A copy: bufferization may compute in place.
            array = np.array(array, dtype=STORAGE[argument.element], order="C")
            record = self.descriptor(array.ndim)()
            record.allocated = record.aligned = array.ctypes.data
            record.sizes[:] = array.shape
            record.strides[:] = [stride // array.itemsize for stride in array.strides] if array.size else [1] * array.ndim
            kept += [array, record]
            pointers.append(ctypes.byref(record))
        fields = [(f"r{i}", self.descriptor(len(shape))) for i, (_, shape) in enumerate(self.results)]
        result = type("Results", (ctypes.Structure,), {"_fields_": fields})()
        self.function(ctypes.byref(result), *pointers)
        return [self.read(getattr(result, f"r{i}"), element) for i, (element, _) in enumerate(self.results)]

    @staticmethod
    def read(record, element):
        shape, item = tuple(record.sizes), np.dtype(STORAGE[element]).itemsize
        if 0 in shape:
            return np.zeros(shape, STORAGE[element])
        span = 1 + sum((size - 1) * stride for size, stride in zip(shape, record.strides))
        buffer = (ctypes.c_char * (span * item)).from_address(record.aligned + record.offset * item)
        flat = np.frombuffer(buffer, dtype=STORAGE[element])
        return np.lib.stride_tricks.as_strided(flat, shape, [stride * item for stride in record.strides]).copy()


def write_flags(folder, function, arguments, arrays, outputs):
    """The flags of iree-run-module for one call, in folder/flags.txt; inputs as raw files beside it."""
    flags = [f"--function={function}", "--device=local-task"]
    for i, (argument, array) in enumerate(zip(arguments, arrays, strict=True)):
        path = os.path.join(folder, f"in{i}.bin")
        np.ascontiguousarray(array, dtype=STORAGE[argument.element]).tofile(path)
        shape = "".join(f"{size}x" for size in np.shape(array))
        flags.append(f"--input={shape}{argument.element}=@{path}")
    flags += [f"--output=@{path}" if path else "--output=" for path in outputs]
    flagfile = os.path.join(folder, "flags.txt")
    with open(flagfile, "w") as file:
        file.write("\n".join(flags) + "\n")
    return flagfile


class Iree:
    """The same through unmodified IREE tools, found beside the running Python or on PATH."""

    def __init__(self, text, folder, function="step", flags=()):
        self.arguments, self.results = parse_signature(text, function)
        self.folder, self.function, self.module = folder, function, os.path.join(folder, f"{function}.vmfb")
        execute([self.tool("iree-compile"), "--iree-hal-target-backends=llvm-cpu", "--iree-llvmcpu-target-cpu=host", *flags,
                 "-", "-o", self.module], input=text.encode())

    @staticmethod
    def tool(name):
        # The folder of this Python's scripts (not resolved: a venv's python is a link).
        found = shutil.which(name, path=os.path.dirname(sys.executable)) or shutil.which(name)
        if not found:
            raise RuntimeError(f"{name} is not installed: pip install iree-base-compiler iree-base-runtime")
        return found

    def __call__(self, arrays):
        outputs = [os.path.join(self.folder, f"out{i}.bin") for i in range(len(self.results))]
        flagfile = write_flags(self.folder, self.function, self.arguments, arrays, outputs)
        execute([self.tool("iree-run-module"), f"--module={self.module}", f"--flagfile={flagfile}"])
        return [self.read(path, element, shape) for path, (element, shape) in zip(outputs, self.results)]

    @staticmethod
    def read(path, element, shape):
        # A raw file has no shape: one dynamic dim follows from the size, more are left flat.
        flat = np.fromfile(path, dtype=STORAGE[element])
        if shape.count(None) > 1:
            return flat
        known = int(np.prod([size for size in shape if size is not None]))
        return flat.reshape([flat.size // known if size is None else size for size in shape])


BACKENDS = {"native": Native, "iree": Iree}
