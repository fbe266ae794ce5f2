#!/usr/bin/env python3
"""moe-run under mpirun: results, and what happens when one process is stopped or killed while all decode.

    processes.py --moe-run PATH --toy PATH [--trials N] [--deadline S] [--work FOLDER]

--toy is make-toy-package. First thread ranks and processes must write the same bytes (2 and 4 ranks, ragged, fewer
sequences than ranks). Then N trials each: one of four ranks is stopped (SIGSTOP); all others must end within the
deadline and five seconds, each with our error that names the stopped rank, and mpirun must not say that all is well.
One is killed, with and without mpirun's recovery, which would hide it: the exit status is not 0 and a message names the
rank. It prints a line per trial and exits 1 if one fails.
"""

import argparse
import os
import re
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


def trial(args, package, victim, how, options=()):
    """Problems of one trial; prints what happened."""
    log = args.work / "trial.log"
    with open(log, "wb") as errors:
        command = [args.moe_run, "generate", package, "--ids", "1,2", "--ids", "3", "--ids", "4,0", "--ids", "5,6,7"]
        command += ["--max-new", "1000000", "--deadline", str(args.deadline), "--quiet"]
        job = subprocess.Popen([*mpirun(4, *options), *command], stdout=subprocess.PIPE, stderr=errors)
        ranks = ranks_of(job, 4)
        read = 0
        while read < 200:  # until tokens come: decode has begun
            read += len(os.read(job.stdout.fileno(), 4096))
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
    parser.add_argument("--toy", required=True)
    parser.add_argument("--trials", type=int, default=2)
    parser.add_argument("--deadline", type=float, default=1)
    parser.add_argument("--work", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        args.work = args.work or Path(folder)
        problems = check_results(args, args.work)
        for number in range(args.trials):
            kind = ("distributed4", "replicated4")[number % 2]
            problems += trial(args, args.work / kind / "package", (2, 0, 3, 1)[number % 4], signal.SIGSTOP)
        for options in ((), ("--enable-recovery",)):
            problems += trial(args, args.work / "distributed4" / "package", 2, signal.SIGKILL, options)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
