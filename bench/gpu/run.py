#!/usr/bin/env python3
"""Runs the stages of bench/gpu.sh from a pack, and prints the table. Plain Python; torch and triton, where they are, serve
peers only.

Every stage has at most eight minutes. What it has finished is kept in OUT/STAGE.json, so that the next call goes on from
there; --again starts over. Correctness comes first: if a stage of it fails, nothing is measured.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tarfile
import time

import stages
import table

STAGE_SECONDS = 480


class OutOfTime(Exception):
    pass


def replace(path, contents):
    """Whole or not at all."""
    fresh = path.with_name(path.name + ".unfinished")
    fresh.write_bytes(contents if isinstance(contents, bytes) else contents.encode())
    fresh.rename(path)


class Bench:
    """What stages use: programs of the pack, the device, and the results so far."""

    def __init__(self, args):
        self.pack, self.out, self.is_emulator = args.pack.resolve(), args.out.resolve(), args.emulator
        self.facts = json.loads((self.pack / "pack.json").read_text())
        self.size = self.facts["size"]
        self.bin = self.pack / "bin"
        self.python, self.peer_python = sys.executable, args.python
        self.device = ["--device", "emulator" if args.emulator else "cuda"]
        self.emulator = ["--emulator"] if args.emulator else []
        self.out.mkdir(parents=True, exist_ok=True)
        # What peers compile is kept for the next call.
        self.environment = {**os.environ, "TRITON_CACHE_DIR": str(self.out / "cache/triton"),
                            "TORCHINDUCTOR_CACHE_DIR": str(self.out / "cache/inductor")}
        if args.emulator:
            self.environment.update(MOE_EMU_DEVICE="h100", MOE_EMU_UNDEFINED_COPIES="finding", MOE_EMU_FINDING_EXIT="9", MOE_EMU_LOG="off")
        self.packages = self.unpack()
        self.prefix = self.loader()
        self.stage, self.data, self.deadline = None, {}, 0

    def unpack(self):
        """The packages of this pack, which it holds compressed."""
        folder = self.out / "packages"
        made = folder / "pack.json"
        if not made.exists() or json.loads(made.read_text()) != self.facts:
            shutil.rmtree(folder, ignore_errors=True)
            with tarfile.open(self.pack / "packages.tar.xz") as archive:
                archive.extractall(self.out)
            replace(made, json.dumps(self.facts) + "\n")
        return folder

    def loader(self):
        """How programs of the pack start: as they are where this machine's C library is as new as theirs, else with the
        pack's own."""
        lib = self.pack / "lib"
        # Where containers may have the driver.
        others = f":{os.environ['LD_LIBRARY_PATH']}" if os.environ.get("LD_LIBRARY_PATH") else ""
        for prefix, path in (([], f"{lib}{others}"),
                             ([lib / "libc/ld-linux-x86-64.so.2", "--library-path", f"{lib}:{lib}/libc{others}"], "")):
            environment = {**self.environment, "LD_LIBRARY_PATH": path}
            command = [*map(str, prefix), str(self.bin / "moe-run"), "--help"]
            try:
                if subprocess.run(command, env=environment, capture_output=True).returncode == 0:
                    self.environment = environment
                    return prefix
            except OSError:
                pass
        sys.exit(f"bench/gpu.sh: {self.bin / 'moe-run'} does not start on this machine, neither with its C library nor with the pack's")

    def call(self, command, fails=False):
        """Runs a command for what is left of the stage's time."""
        command = list(map(str, command))
        own = command[0].startswith(str(self.bin))
        left = self.deadline - time.monotonic()
        try:
            # Python and torch take their libraries from the machine.
            environment = self.environment if own else {**self.environment, "LD_LIBRARY_PATH": os.environ.get("LD_LIBRARY_PATH", "")}
            done = subprocess.run([*map(str, self.prefix if own else []), *command], env=environment, capture_output=True, text=True,
                                  timeout=max(left, 1))
        except subprocess.TimeoutExpired:
            raise OutOfTime(f"{' '.join(command)[:300]} was not done when the stage's {STAGE_SECONDS} s were over") from None
        if done.returncode != 0 and not fails:
            raise stages.Wrong(f"{' '.join(command)[:300]} failed ({done.returncode}): {done.stderr[-1000:]}")
        return done

    def json(self, command, fails=False):
        done = self.call(command, fails)
        try:
            return json.loads(done.stdout)
        except ValueError:
            raise stages.Wrong(f"{' '.join(map(str, command))[:300]} printed no JSON ({done.returncode}): {done.stderr[-1000:]}") from None

    def peer(self, name, *options):
        """Figures of a peer, or {"absent": why}."""
        device = "cpu" if self.is_emulator else "cuda"
        done = self.call([self.peer_python, self.pack / "gpu/peers.py", name, "--device", device, *options], fails=True)
        try:
            return json.loads(done.stdout)
        except ValueError:
            return {"absent": ((done.stderr.strip().splitlines() or ["it printed nothing"])[-1])[:200]}

    def item(self, key, make):
        """A part of the stage, made once."""
        if key not in self.data["items"]:
            self.data["items"][key] = make()
            self.save()
        return self.data["items"][key]

    replace = staticmethod(replace)

    def path(self, stage):
        return self.out / (stage.replace(" ", "-") + ".json")

    def save(self):
        replace(self.path(self.stage), json.dumps(self.data) + "\n")

    def result(self, stage, part="result"):
        data = json.loads(self.path(stage).read_text()) if self.path(stage).exists() else {}
        if part not in data:
            raise stages.Absent(f"the stage '{stage}' has no result")
        return data[part]

    def run(self, stage, function):
        self.stage, self.deadline = stage, time.monotonic() + STAGE_SECONDS
        path = self.path(stage)
        self.data = json.loads(path.read_text()) if path.exists() else {}
        if self.data.get("pack") != self.facts or self.data.get("emulator") != self.is_emulator:
            self.data = {"pack": self.facts, "emulator": self.is_emulator, "seconds": 0, "items": {}}
        if self.data.get("status") == "passed":
            return self.data
        begun = time.monotonic()
        try:
            self.data["result"] = function(self)
            self.data["status"] = "passed"
        except stages.Absent as why:
            self.data.update(status="left out", why=str(why))
        except OutOfTime as why:
            self.data.update(status="unfinished", why=f"{why}; call again to go on")
        except stages.Wrong as why:
            self.data.update(status="failed", why=str(why))
        if self.data["status"] == "passed":
            self.data.pop("why", None)
        self.data["seconds"] = round(self.data["seconds"] + time.monotonic() - begun, 1)
        self.save()
        return self.data


def card(bench):
    """What nvidia-smi says of the card; the emulator says its own name."""
    try:
        done = subprocess.run(["nvidia-smi", "--query-gpu=name,driver_version,clocks.max.sm,power.limit", "--format=csv,noheader"],
                              capture_output=True, text=True)
        if done.returncode == 0 and not bench.is_emulator:
            return done.stdout.strip().splitlines()[0]
    except OSError:
        pass
    return "the emulator" if bench.is_emulator else "unknown"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pack", type=pathlib.Path, required=True, help="folder that bench/gpu.sh pack made")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder of results; some GB, for random weights too")
    parser.add_argument("--stage", action="append", help="only stages with this in their name; may be repeated")
    parser.add_argument("--python", default=sys.executable, help="Python with torch and triton, for the peers")
    parser.add_argument("--emulator", action="store_true", help="no GPU: everything runs, no time means anything")
    parser.add_argument("--again", action="store_true", help="forget earlier results of the stages")
    parser.add_argument("--keep-going", action="store_true", help="measure although a stage of correctness failed")
    args = parser.parse_args()
    bench = Bench(args)
    chosen = [entry for entry in stages.STAGES if not args.stage or any(part in entry[0] for part in args.stage)]
    if not chosen:
        sys.exit(f"bench/gpu.sh: no stage '{args.stage[0]}'; they are: {', '.join(name for name, _ in stages.STAGES)}")
    unproven, failed = "", False
    for name, function in chosen:
        if args.again:
            bench.path(name).unlink(missing_ok=True)
        is_correctness = stages.STAGES.index((name, function)) < stages.CORRECTNESS
        if unproven and not is_correctness and not args.keep_going:
            print(f"{name}: not measured, since {unproven}", flush=True)
            continue
        data = bench.run(name, function)
        failed |= data["status"] in ("failed", "unfinished")
        if is_correctness and data["status"] == "failed":
            unproven = "results are wrong"
        elif is_correctness and data["status"] == "unfinished":
            unproven = unproven or f"the stage '{name}' is not finished: call again"
        print(f"{name}: {data['status']}, {data['seconds']} s{': ' + data['why'] if data.get('why') else ''}", flush=True)
    report = {"commit": bench.facts["commit"], "card": card(bench), "date": datetime.date.today().isoformat(), "emulator": args.emulator,
              "host": platform.processor() or platform.machine(), "size": bench.size, "stages": {}}
    for name, _ in stages.STAGES:
        if bench.path(name).exists():
            data = json.loads(bench.path(name).read_text())
            report["stages"][name] = {key: data[key] for key in ("status", "why", "seconds", "result") if key in data}
    replace(bench.out / "gpu.json", json.dumps(report, indent=1) + "\n")
    text = table.render(report)
    replace(bench.out / "gpu.md", text)
    print("\n" + text + f"\n{bench.out / 'gpu.json'} holds all of it")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
