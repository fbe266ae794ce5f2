#!/usr/bin/env python3
"""Runs the collection through a CUDA driver API: the emulator's, or a card's (which is how the .json files are judged).

    run.py --libcuda build/lib/emulator/libcuda.so.1      all cases
    run.py --libcuda libcuda.so.1 reduce_shared           one, on a card
    run.py --libcuda .../libcuda.so.1 --seeds 32          all cases in every mode of the emulator, with so many seeds;
                                                          a finding is a failure

Needs nothing but Python: the driver is called through ctypes. Exit 0 when every case gives what its .json says.
"""

import argparse
import ctypes
import json
import math
import os
import struct
import subprocess
import sys
from ctypes import byref, c_int, c_size_t, c_uint, c_uint64, c_void_p
from pathlib import Path

HERE = Path(__file__).parent
FORMATS = dict(u8="B", u16="H", i32="i", u32="I", i64="q", f32="f", f64="d")
TYPES = dict(u8=0, u16=1, u32=2, s32=3, u64=4, s64=5, f16=6, f32=7, f64=8, bf16=9)
SWIZZLES = {"none": 0, "32B": 1, "64B": 2, "128B": 3}


class Driver:
    def __init__(self, path):
        self.library = ctypes.CDLL(path)
        self("cuInit", 0)
        device = c_int()
        self("cuDeviceGet", byref(device), 0)
        name = ctypes.create_string_buffer(256)
        self("cuDeviceGetName", name, 256, device)
        major, minor = c_int(), c_int()
        self("cuDeviceGetAttribute", byref(major), 75, device)
        self("cuDeviceGetAttribute", byref(minor), 76, device)
        self.name, self.sm = name.value.decode(), major.value * 10 + minor.value
        context = c_void_p()
        self("cuDevicePrimaryCtxRetain", byref(context), device)
        self("cuCtxSetCurrent", context)

    def __call__(self, function, *arguments):
        status = getattr(self.library, function)(*arguments)
        if status:
            text = ctypes.c_char_p()
            self.library.cuGetErrorString(status, byref(text))
            raise RuntimeError(f"{function}: {status} {(text.value or b'').decode()}")


class LaunchConfig(ctypes.Structure):
    _fields_ = [("shape", c_uint * 7), ("stream", c_void_p), ("attributes", c_void_p), ("count", c_uint)]


class LaunchAttribute(ctypes.Structure):
    _fields_ = [("id", c_int), ("value", c_int * 17)]  # of which the first is padding


PROGRAMMATIC_STREAM_SERIALIZATION = 6


def pack(kind, values):
    return struct.pack(f"<{len(values)}{FORMATS[kind]}", *values)


def tensor_map(driver, map_, pointers):
    """128 bytes at an address that is a multiple of 64, kept alive by the returned buffer."""
    rank = len(map_["dims"])
    room = ctypes.create_string_buffer(192)
    at = (ctypes.addressof(room) + 63) & ~63
    driver(
        "cuTensorMapEncodeTiled", c_void_p(at), TYPES[map_["type"]], rank, c_void_p(pointers[map_["buffer"]].value),
        (c_uint64 * rank)(*map_["dims"]), (c_uint64 * max(rank - 1, 1))(*map_["strides"]), (c_uint * rank)(*map_["box"]),
        (c_uint * rank)(*map_["elementStrides"]), 0, SWIZZLES[map_["swizzle"]], 0, 0,
    )  # fmt: skip
    return room, at


def contents(driver, buffer, pointers):
    """The bytes of a buffer before the launch, or None of one that is undefined; and how many there are."""
    if buffer["type"] == "pointers":
        data = pack("i64", [pointers[name].value for name in buffer["in"]])
    elif buffer["type"] == "tensorMaps":
        rooms = [tensor_map(driver, map_, pointers) for map_ in buffer["in"]]
        data = b"".join(ctypes.string_at(at, 128) for room, at in rooms)
    elif "in" in buffer:
        data = pack(buffer["type"], buffer["in"])
    else:
        return None, buffer["count"] * struct.calcsize("<" + FORMATS[buffer["type"]])
    return data, len(data)


def launch_before(driver, case, pointers, sizes):
    """Launches the kernel that the case's own may overlap: a block for each of its buffers, of which it gets the ends."""
    before, module, kernel, table = case["before"], c_void_p(), c_void_p(), c_uint64()
    driver("cuModuleLoadData", byref(module), (case["folder"] / before["ptx"]).read_bytes() + b"\0")
    driver("cuModuleGetFunction", byref(kernel), module, before["kernel"].encode())
    begins = [pointers[name].value for name in before["buffers"]]
    data = pack("i64", [end for name, begin in zip(before["buffers"], begins) for end in (begin, begin + sizes[name])])
    driver("cuMemAlloc_v2", byref(table), c_size_t(len(data)))
    driver("cuMemcpyHtoD_v2", table, data, c_size_t(len(data)))
    shape = [len(begins), 1, 1, before["threads"], 1, 1, 0]
    driver("cuLaunchKernel", kernel, *map(c_uint, shape), None, (c_void_p * 1)(ctypes.addressof(table)), None)


def launch(driver, case, kernel, parameters, early):
    """`early`: while what was launched before may still run."""
    shape = [*case["grid"], *case["block"], case.get("dynamicShared", 0)]
    if case.get("cooperative"):
        driver("cuLaunchCooperativeKernel", kernel, *map(c_uint, shape), None, parameters)
        return
    attribute = LaunchAttribute(PROGRAMMATIC_STREAM_SERIALIZATION, (c_int * 17)(0, 1))
    config = LaunchConfig((c_uint * 7)(*shape), None, ctypes.addressof(attribute), 1 if early else 0)
    driver("cuLaunchKernelEx", byref(config), kernel, parameters, None)


def run(driver, case, text=None):
    """What differs from `case`, in words. `text`: PTX to run instead of the case's."""
    module, kernel = c_void_p(), c_void_p()
    text = (text.encode() if text else (case["folder"] / case["ptx"]).read_bytes()) + b"\0"
    driver("cuModuleLoadData", byref(module), text)
    driver("cuModuleGetFunction", byref(kernel), module, case["kernel"].encode())
    pointers, sizes, keep = {}, {}, []
    for name, buffer in case["buffers"].items():
        data, size = contents(driver, buffer, pointers)
        pointers[name], sizes[name] = c_uint64(), size
        driver("cuMemAlloc_v2", byref(pointers[name]), c_size_t(size))
        if data is not None:
            driver("cuMemcpyHtoD_v2", pointers[name], data, c_size_t(size))
    for argument in case["arguments"]:
        if "buffer" in argument:
            keep.append((pointers[argument["buffer"]], None))
        elif "tensorMap" in argument:
            room, at = tensor_map(driver, argument["tensorMap"], pointers)
            keep.append((at, room))
        else:
            raw = bytes.fromhex(argument["bytes"]) if "bytes" in argument else pack(argument["type"], [argument["value"]])
            keep.append((ctypes.create_string_buffer(raw, len(raw)), None))
    addresses = [value if isinstance(value, int) else ctypes.addressof(value) for value, _ in keep]
    parameters = (c_void_p * len(addresses))(*addresses)
    dynamic = case.get("dynamicShared", 0)
    if dynamic > 48 * 1024:
        driver("cuFuncSetAttribute", kernel, 8, dynamic)
    if "before" in case:
        launch_before(driver, case, pointers, sizes)
    launch(driver, case, kernel, parameters, early="before" in case)
    driver("cuCtxSynchronize")
    problems = []
    for name, buffer in case["buffers"].items():
        if buffer["type"] in FORMATS:
            problems += differences(driver, name, buffer, pointers[name])
        driver("cuMemFree_v2", pointers[name])
    driver("cuModuleUnload", module)
    return problems


def differences(driver, name, buffer, pointer):
    """What is not as it should be in a buffer after the launch."""
    want = buffer["out"] if "out" in buffer else buffer["in"]
    back = ctypes.create_string_buffer(struct.calcsize(f"<{len(want)}{FORMATS[buffer['type']]}"))
    driver("cuMemcpyDtoH_v2", back, pointer, c_size_t(len(back)))
    got, tolerance = struct.unpack(f"<{len(want)}{FORMATS[buffer['type']]}", back.raw), buffer.get("tolerance", 0)
    return [
        f"{name}[{i}] is {g}, expected {w}"
        for i, (g, w) in enumerate(zip(got, want))
        if g != w and not (math.isfinite(g) and abs(g - w) <= tolerance * max(1.0, abs(w)))
    ]


def read_case(path):
    """The case of a .json file; its PTX lies beside it."""
    return dict(json.loads(path.read_text()), folder=path.parent)


def modes(seeds):
    """The emulator's modes as environments, the seeded ones with so many seeds."""
    made = [dict(MOE_EMU_SCHEDULE=schedule) for schedule in ("early", "late")]
    made += [dict(MOE_EMU_SCHEDULE="random", MOE_EMU_SEED=str(seed)) for seed in range(seeds)]
    made += [dict(mode, MOE_EMU_DELAY_LANES="on") for mode in made]
    return made + [dict(MOE_EMU_CHECKS="off"), dict(MOE_EMU_CHECKS="off", MOE_EMU_THREADS="3")]


def run_modes(options):
    """The cases once per mode, each in a process of its own: the emulator reads its settings when it is loaded."""
    failed = 0
    for mode in modes(options.seeds):
        environment = dict(os.environ, MOE_EMU_FINDING_EXIT="3", **mode)
        command = [sys.executable, __file__, "--libcuda", options.libcuda, "--folder", options.folder, *options.cases]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            failed += 1
            print(f"{' '.join(f'{k}={v}' for k, v in mode.items())}: exit {done.returncode}\n{done.stdout[-2000:]}")
    print(f"{len(modes(options.seeds))} modes, {failed} failed")
    return 1 if failed else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--libcuda", required=True)
    parser.add_argument("--folder", type=Path, default=HERE, help="where the cases lie (the collection)")
    parser.add_argument("cases", nargs="*")
    parser.add_argument("--seeds", type=int, help="run every mode of the emulator, the seeded ones with seeds 0 to SEEDS-1")
    options = parser.parse_args()
    if options.seeds is not None:
        return run_modes(options)
    driver = Driver(options.libcuda)
    names = options.cases or sorted(p.stem for p in options.folder.glob("*.json"))
    failed, skipped = [], []
    for name in names:
        case = read_case(options.folder / f"{name}.json")
        needed = case["target"][3:]
        if int(needed.rstrip("a")) > driver.sm or (needed.endswith("a") and int(needed[:-1]) != driver.sm):
            skipped.append(name)
            continue
        try:
            problems = run(driver, case)
        except RuntimeError as error:
            problems = [str(error)]
        if problems:
            failed.append(name)
            print(f"{name}: {len(problems)} differ: " + "; ".join(problems[:3]))
            if "cu" == problems[0][:2] and not options.cases:
                print("  (a driver error may make every later case fail)")
    print(f"{driver.name}: {len(names) - len(failed) - len(skipped)} right, {len(failed)} wrong, {len(skipped)} not for it")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
