#!/usr/bin/env python3
"""moe-run under mpirun: results, and what happens when one rank is stopped or killed while all decode.

    processes.py --moe-run PATH (--toy PATH | --package PKG) [--trials N] [--deadline S] [--work FOLDER]

--toy is make-toy-package. First thread ranks and processes must write the same bytes (2 and 4 ranks, ragged, fewer
sequences than ranks). Then N trials each: one of four ranks is stopped (SIGSTOP); all others must end within the
deadline and five seconds, each with our error that names the stopped rank, and mpirun must not say that all is well.
One is killed, with and without mpirun's recovery, which would hide it: the exit status is not 0 and a message names the
rank. With --package the trials are on that package of a real model for four ranks, and as many are on thread ranks: one
thread is stopped, as a debugger stops it. It prints a line per trial and exits 1 if one fails.
"""

import argparse
import ctypes
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SEQUENCES = "[[1,2,3,4,5,6,7,0,1,2,3,4,5,6,7,0,1,2,3],[5],[7,7,7],[0,6,1,5,2,4,3],[2,2]]"
FEW = "[[3,1,4]]"


def mpirun(ranks, *options):
    # As root mpirun wants to be asked twice; more ranks than cores are what a test has.
    os.environ["OMPI_ALLOW_RUN_AS_ROOT"] = os.environ["OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] = "1"
    return ["mpirun", "--oversubscribe", "-n", str(ranks), *options]


def check_results(args, work):
    problems = 0
    for kind in ("replicated", "distributed"):
        for ranks in (2, 4):
            toy = work / f"{kind}{ranks}"
            subprocess.run([args.toy, toy, kind, str(ranks)], check=True)
            for name, ids in (("many", SEQUENCES), ("few", FEW)):
                (work / "ids.json").write_text(ids)
                for chunks in ("one", "token", "random:5"):
                    outputs = []
                    for launcher in ([], mpirun(ranks)):
                        out = work / "logits.npy"
                        command = [args.moe_run, "logits", toy / "package", "--ids-file", work / "ids.json", "-o", out]
                        command += ["--chunks", chunks, "--interleave", "5", "--quiet"]
                        subprocess.run([*launcher, *command], check=True, stdout=subprocess.PIPE, timeout=120)
                        outputs.append(out.read_bytes())
                    same = outputs[0] == outputs[1]
                    problems += not same
                    if not same:
                        print(f"FAILED {kind}, {ranks} ranks, {name} sequences, chunks {chunks}: other logits")
    print(f"results: threads and processes {'differ' if problems else 'write the same bytes'}")
    return problems


def ranks_of(job, count):
    """Process ids by rank, once all ranks run."""
    for _ in range(300):
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                environment = (folder / "environ").read_bytes().split(b"\0")
                parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except (OSError, ValueError):
                continue
            if parent != job.pid:
                continue
            for entry in environment:
                if entry.startswith(b"OMPI_COMM_WORLD_RANK="):
                    found[int(entry.split(b"=")[1])] = int(folder.name)
        if len(found) == count:
            return found
        time.sleep(0.1)
    raise RuntimeError("the ranks did not start")


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def decoding(args, package):
    """A command that goes on decoding four sequences; a real model has an end of its text and a longest context."""
    command = [args.moe_run, "generate", package, "--ids", "1,2", "--ids", "3", "--ids", "4,0", "--ids", "5,6,7"]
    command += ["--max-new", "1000", "--ignore-eos", "--threads", "1"] if args.package else ["--max-new", "1000000"]
    return [*command, "--deadline", str(args.deadline), "--quiet"]


def await_tokens(args, job):
    """Until decode has begun."""
    read = 0
    while read < (2 if args.package else 200):
        read += len(os.read(job.stdout.fileno(), 4096))


SEIZE, INTERRUPT, WALL = 0x4206, 0x4207, 0x40000000  # of ptrace and waitpid; not in Python's modules


def thread_trial(args, package, victim):
    """One of four thread ranks is stopped; each rank is one thread, in rank order."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    log = args.work / "trial.log"
    with open(log, "wb") as errors:
        job = subprocess.Popen(decoding(args, package), stdout=subprocess.PIPE, stderr=errors)
        await_tokens(args, job)
        threads = sorted(map(int, os.listdir(f"/proc/{job.pid}/task")))
        assert len(threads) == 4, f"{len(threads)} threads for 4 ranks"
        thread = threads[victim]
        for request in (SEIZE, INTERRUPT):
            if libc.ptrace(request, thread, None, None) != 0:
                raise OSError(ctypes.get_errno(), "ptrace")
        os.waitpid(thread, WALL)  # it stands
        begin = time.monotonic()
        # Until the process ends, which closes its output.
        while not select.select([job.stdout], [], [], 1)[0] or os.read(job.stdout.fileno(), 1 << 20):
            if time.monotonic() - begin > args.deadline + 30:
                job.kill()
        seconds = time.monotonic() - begin
        if victim:
            os.waitpid(thread, WALL)  # the tracer is told of its end first
        job.wait(timeout=60)
    text = log.read_text(errors="replace")
    problems = []
    if seconds > args.deadline + 5:
        problems.append(f"the others took {seconds:.1f} s")
    if not re.search(rf"error: .*rank {victim} (?:did not|sent nothing)", text):
        problems.append("no error of ours names the rank")
    if job.returncode <= 0:
        problems.append(f"exit status {job.returncode}")
    print(f"{'FAILED' if problems else 'ok'} thread of rank {victim} stopped: {seconds:.1f} s, exit {job.returncode} "
          f"{'; '.join(problems)}", flush=True)
    if problems:
        print(text)
    return len(problems)


def trial(args, package, victim, how, options=()):
    """Problems of one trial; prints what happened."""
    log = args.work / "trial.log"
    with open(log, "wb") as errors:
        job = subprocess.Popen([*mpirun(4, *options), *decoding(args, package)], stdout=subprocess.PIPE, stderr=errors)
        ranks = ranks_of(job, 4)
        await_tokens(args, job)
        os.kill(ranks[victim], how)
        begin = time.monotonic()
        others = [pid for rank, pid in ranks.items() if rank != victim]
        os.set_blocking(job.stdout.fileno(), False)
        while any(map(is_running, others)) and time.monotonic() - begin < args.deadline + 30:
            try:
                os.read(job.stdout.fileno(), 1 << 20)
            except BlockingIOError:
                pass
            time.sleep(0.02)
        seconds = time.monotonic() - begin
        if how == signal.SIGSTOP:
            try:
                os.kill(ranks[victim], signal.SIGKILL)  # mpirun may be waiting for it
            except ProcessLookupError:
                pass
        job.communicate(timeout=60)
    text = log.read_text(errors="replace")
    ours = re.findall(rf"error: rank (\d): rank {victim} (?:did not|sent nothing|failed)", text)
    said = bool(ours) or bool(re.search(rf"process rank {victim}\b|rank {victim} ", text))
    problems = []
    if how == signal.SIGSTOP:
        if seconds > args.deadline + 5:
            problems.append(f"the others took {seconds:.1f} s")
        if len(set(ours)) < 1:
            problems.append("no error of ours names the rank")
    elif not said:
        problems.append("nothing names the rank")
    if job.returncode == 0:
        problems.append("exit status 0")
    print(f"{'FAILED' if problems else 'ok'} {how.name} of rank {victim} {' '.join(options)}: {seconds:.1f} s, exit "
          f"{job.returncode}, named by ranks {','.join(sorted(set(ours))) or '-'} {'; '.join(problems)}", flush=True)
    if problems:
        print(text)
    return len(problems)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--moe-run", required=True)
    parser.add_argument("--toy")
    parser.add_argument("--package")
    parser.add_argument("--trials", type=int, default=2)
    parser.add_argument("--deadline", type=float, default=1)
    parser.add_argument("--work", type=Path)
    args = parser.parse_args()
    if bool(args.toy) == bool(args.package):
        parser.error("give --toy or --package")
    problems = 0
    with tempfile.TemporaryDirectory() as folder:
        args.work = args.work or Path(folder)
        if args.package:
            packages = [args.package]
        else:
            problems += check_results(args, args.work)
            packages = [args.work / kind / "package" for kind in ("distributed4", "replicated4")]
        for number in range(args.trials):
            victim = (2, 0, 3, 1)[number % 4]
            problems += trial(args, packages[number % len(packages)], victim, signal.SIGSTOP)
            problems += thread_trial(args, args.package, victim) if args.package else 0
        for options in ((), ("--enable-recovery",)):
            problems += trial(args, packages[0], 2, signal.SIGKILL, options)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
