#!/usr/bin/env python3
"""Mutation score of the emulator's judgement: faulty kernels must be found.

    mutate.py --libcuda build/lib/emulator/libcuda.so.1            every mutant of every kernel (minutes)
    mutate.py --libcuda .../libcuda.so.1 --sample 10 3             the mutants whose number is 3 modulo 10
    mutate.py --libcuda .../libcuda.so.1 bulk_copy --verbose       those of one kernel, and how each is found
    mutate.py --libcuda .../libcuda.so.1 --folder F --equivalent E --table     of other kernels, with a table of the score

In the PTX of each kernel of the collection, one synchronisation instruction, count, phase or descriptor constant at a
time is deleted or weakened. A mutant is found when some mode of the emulator reports a finding, fails the launch or
gives a result that differs. Those that no mode finds are printed, and make the exit code 1 unless equivalent.txt lists
them with the reason why they are no faults, or with "not judged: ..." where the emulator does not ask for what the PTX ISA
does; the latter count against the score (of generated kernels by the number of the instruction among those of its name,
since lines come and go); an entry there that names no mutant, or one that is found, is an error too.
Mutants that the front end refuses are no mutants, nor are those of instructions that the launch does not execute
(a trap in their place changes nothing). A note of a kind that the right kernel does not have counts as found. Each runs in a process of its own, so that a crash or a hang harms
nobody: both count as errors of the emulator.
"""

import argparse
import collections
import copy
import json
import os
import re
import resource
import select
import signal
import sys
import time
from pathlib import Path

import run as collection

HERE = Path(__file__).parent
INSTRUCTION = re.compile(
    r"(?P<guard>@!?[%\w$]+\s+)?"
    r"(?P<op>\b(?:bar|barrier|membar|fence|mbarrier|cp|wgmma|griddepcontrol|atom|red|ld|st|shfl|vote|match|redux)\.[\w.:]+)"
    r"(?P<args>(?:\s+[^;]*)?);"
)
# Of griddepcontrol the wait only: without launch_dependents the next kernel starts later, which is no fault.
DELETED = re.compile(
    r"(bar|barrier|membar|fence|griddepcontrol\.wait|wgmma\.(fence|commit_group|wait_group)|cp\.async\.(commit_group|wait_)|"
    r"cp\.async\.mbarrier|cp\.async\.bulk\.(commit_group|wait_group)|mbarrier\.(init|arrive|expect_tx|complete_tx|inval))\b"
)


def modes(seeds):
    """Settings of the emulator, those that find most first."""
    yield dict(MOE_EMU_SCHEDULE="late")
    yield dict(MOE_EMU_SCHEDULE="early")
    for seed in range(seeds):
        yield dict(MOE_EMU_SCHEDULE="random", MOE_EMU_SEED=str(seed))
    for seed in range(seeds):
        yield dict(MOE_EMU_SCHEDULE="random", MOE_EMU_SEED=str(seed), MOE_EMU_DELAY_LANES="on")


def operands(text):
    """Operands at the top level: brackets and braces keep theirs together."""
    parts, depth, begin = [], 0, 0
    for i, c in enumerate(text):
        depth += (c in "[{(") - (c in "]})")
        if c == "," and depth == 0:
            parts.append(text[begin:i].strip())
            begin = i + 1
    last = text[begin:].strip()
    return parts + [last] if last else parts


def integer(text):
    """The value of an integer literal, or None."""
    match = re.fullmatch(r"-?(0[xX][0-9a-fA-F]+|\d+)U?", text)
    return int(text.rstrip("U"), 0) if match else None


class Site:
    """One instruction of the text, and how to write it otherwise."""

    def __init__(self, match):
        self.op, self.args, self.guard = match["op"], operands(match["args"]), match["guard"] or ""

    def written(self, op=None, args=None, before=""):
        args = self.args if args is None else args
        text = f"{self.guard}{op or self.op} {', '.join(args)};"
        return f"{{ {before}{text} }}" if before else text

    def with_operand(self, index, operation, bits=32):
        """Operand `index` changed by `operation`, (opcode, python function, constant): literal or in a register."""
        name, function, constant = operation
        value, args = integer(self.args[index]), list(self.args)
        if value is not None:
            args[index] = str(function(value, constant))
            return self.written(args=args)
        kind = f"s{bits}" if name == "add" else f"b{bits}"
        args[index] = "%moeMutant"
        before = f".reg .b{bits} %moeMutant; {name}.{kind} %moeMutant, {self.args[index]}, {constant}; "
        return self.written(args=args, before=before)


ADD = lambda n: ("add", lambda value, constant: value + constant, n)
XOR = lambda n: ("xor", lambda value, constant: value ^ constant, n)


def is_number(site, index):
    """Operand that holds a value: a literal or a register that is no address."""
    return index < len(site.args) and site.args[index][0] not in "[{"


def counts_and_phases(site, named):
    op, args = site.op, site.args
    if re.match(r"(bar|barrier)\.(sync|arrive|red)\b", op) and not op.startswith("barrier.cluster"):
        number = 1 if ".red" in op else 0
        if named:  # with one barrier in the whole kernel its number says nothing
            yield "barrier number + 1", site.with_operand(number, ADD(1))
        if is_number(site, number + 1) and (".red" not in op or len(args) > 3):
            yield "32 threads more", site.with_operand(number + 1, ADD(32))
            yield "32 threads fewer", site.with_operand(number + 1, ADD(-32))
    if op.startswith("bar.warp.sync"):
        yield "without the upper lanes", site.with_operand(0, ("and", lambda a, b: a & b, 0xFFFF))
    if op.startswith("mbarrier.init"):
        yield "one arrival more", site.with_operand(1, ADD(1))
        yield "one arrival fewer", site.with_operand(1, ADD(-1))
    if re.match(r"mbarrier\.(arrive.*expect_tx|expect_tx|complete_tx)", op):
        yield "16 bytes more", site.with_operand(len(args) - 1, ADD(16))
        yield "16 bytes fewer", site.with_operand(len(args) - 1, ADD(-16))
    elif op.startswith("mbarrier.arrive") and is_number(site, 2):
        yield "one arrival more", site.with_operand(2, ADD(1))
    if re.match(r"mbarrier\.(test|try)_wait", op):
        if ".parity" in op:
            yield "other parity", site.with_operand(2, XOR(1))
        else:
            yield "phase + 1", site.with_operand(2, XOR(1 << 20), 64)
    if ".wait_group" in op:
        yield "one group fewer", site.with_operand(0, ADD(1))
    if op.startswith("cp.async.bulk.") and not re.search(r"tensor|group|prefetch", op.replace("bulk_group", "")):
        yield "16 bytes fewer", site.with_operand(2, ADD(-16))
    if ".multicast::cluster" in op:
        yield "one block fewer", site.with_operand(3, XOR(1), 16)
    if re.match(r"(shfl|vote|match|redux)\.sync", op):
        yield "members without lanes 7 and 31", site.with_operand(len(args) - 1, ("and", lambda a, b: a & b, 0x7FFFFF7F))


def weaker(site, blocks):
    op = site.op
    if op.startswith(("membar.", "fence.")) and re.search(r"\.(gl|sys|gpu)\b", op) and "proxy" not in op:
        yield "scope cta", site.written(re.sub(r"\.(gl|sys|gpu)\b", ".cta", op))
    if re.match(r"(ld|st|atom|red|mbarrier|barrier\.cluster)\b.*\.(acquire|release|acq_rel)\b", op):
        if not op.startswith("barrier.cluster.wait"):
            yield "relaxed", site.written(re.sub(r"\.(acquire|release|acq_rel)\b", ".relaxed", op))
        if re.search(r"\.(gpu|sys)\b", op) and blocks > 1:
            yield "scope cta", site.written(re.sub(r"\.(gpu|sys)\b", ".cta", op))
    elif re.match(r"mbarrier\.(arrive|test_wait|try_wait)", op):
        # mbarrier.arrive{.expect_tx}{.noComplete}, mbarrier.try_wait{.parity}: the semantics stand behind these words.
        yield "relaxed", site.written(re.sub(r"^(mbarrier\.\w+(?:\.expect_tx|\.noComplete|\.parity)?)", r"\1.relaxed.cta", op))
    if re.match(r"(atom|red)\.", op) and blocks > 1 and not re.search(r"\.(cta|cluster|gpu|sys|shared)\b", op):
        yield "scope cta", site.written(re.sub(r"^(atom|red)", r"\1.relaxed.cta", op))
    if re.match(r"(ld|st)\.volatile", op):
        yield "weak", site.written(op.replace(".volatile", ""))
    if op.startswith("cp.async.bulk.wait_group") and ".read" not in op:
        yield "sources only", site.written(op + ".read")


def descriptors(site):
    if not site.op.startswith("wgmma.mma_async"):
        return
    names = [(1, "start + 16 bytes"), (1 << 16, "leading offset"), (1 << 32, "stride offset"), (1 << 62, "swizzle"), (1 << 63, "swizzle's other bit")]
    for index, which in ((1, "A"), (2, "B")):
        if site.args[index][0] != "{":
            for bit, name in names:
                yield f"descriptor {which}: {name}", site.with_operand(index, ADD(1) if bit == 1 else XOR(bit), 64)
    for index in range(6, len(site.args)):
        yield f"major {index - 6}", site.with_operand(index, XOR(1))


def deletion(site):
    if re.match(r"mbarrier\.(test|try)_wait", site.op):
        yield "deleted", f"{site.guard}setp.eq.u32 {site.args[0]}, 0, 0;"
    elif DELETED.match(site.op):
        yield "deleted", ""


def of_text(text, case):
    """(which instruction, name, text of the mutant, text with a trap there) for every mutant of the PTX."""
    plain = re.sub(r"//[^\n]*", lambda m: " " * len(m[0]), text)
    blocks = case["grid"][0] * case["grid"][1] * case["grid"][2]
    named = len(set(re.findall(r"\bbar(?:rier)?\.(?:sync|arrive|red\S*\s+[^,;]+,)\S*\s+([^,;]+)", plain))) > 1
    met = collections.Counter()
    for match in INSTRUCTION.finditer(plain):
        site = Site(match)
        met[site.op] += 1
        line = plain.count("\n", 0, match.start("op")) + 1
        which = f"{site.op} #{met[site.op]}" if case.get("generated") else f"{line} {site.op}"
        for source in (deletion(site), counts_and_phases(site, named), weaker(site, blocks), descriptors(site)):
            for name, new in source:
                before, behind = text[: match.start()], text[match.end() :]
                yield which, name, before + new + behind, f"{before}{site.guard}trap;{behind}"


def of_maps(case):
    """(description, case) with one constant of a tensor map changed."""
    places = [("arguments", index, "tensorMap") for index, argument in enumerate(case["arguments"]) if "tensorMap" in argument]
    for name, buffer in case["buffers"].items():
        places += [("buffers", name, "in", i) for i in range(len(buffer["in"]) if buffer["type"] == "tensorMaps" else 0)]

    def at(tree, place):
        return at(tree[place[0]], place[1:]) if place else tree

    for place in places:
        index, map_ = "_".join(str(step) for step in place if step not in ("arguments", "buffers", "in", "tensorMap")), at(case, place)

        def changed(key, value, place=place):
            made = copy.deepcopy(case)
            at(made, place)[key] = value
            return made

        for swizzle in ("none", "32B", "64B", "128B"):
            if swizzle != map_["swizzle"]:
                yield f"map {index}: swizzle {swizzle}", changed("swizzle", swizzle)
        for dim, extent in enumerate(map_["dims"]):
            yield f"map {index}: dims[{dim}] - 1", changed("dims", [e - (d == dim) for d, e in enumerate(map_["dims"])])
            yield f"map {index}: box[{dim}] halved", changed("box", [max(e // 2, 1) if d == dim else e for d, e in enumerate(map_["box"])])
        for dim in range(len(map_["strides"])):
            yield f"map {index}: strides[{dim}] + 16", changed("strides", [s + 16 * (d == dim) for d, s in enumerate(map_["strides"])])


class Mutant:
    def __init__(self, kernel, where, case, text, trap=None):
        self.kernel, self.name, self.case, self.text, self.trap = kernel, f"{kernel} {where}", case, text, trap
        self.notes = ()


def mutants(folder, kernels):
    for kernel in kernels:
        case = collection.read_case(folder / f"{kernel}.json")
        text = (folder / case["ptx"]).read_text()
        for which, name, new, trap in of_text(text, case):
            yield Mutant(kernel, f"{which}: {name}", case, new, trap)
        for name, new in of_maps(case):
            yield Mutant(kernel, name, new, text)


def attempt(libcuda, mode, mutant, limit):
    """Runs in the child: what the emulator says of the mutant, or None when it says nothing."""
    os.environ.update(MOE_EMU_STEP_LIMIT=str(limit), MOE_EMU_LOG="off", **mode)
    driver = collection.Driver(libcuda)
    try:
        problems = collection.run(driver, mutant.case, mutant.text)
    except RuntimeError as error:
        if "cuModuleLoadData" in str(error):
            return "refused"
        problems = [str(error)]
    notes, room = [], collection.ctypes.create_string_buffer(400)
    for index in range(1000):
        room.value = b""
        driver.library.moeEmulatorFindingText(index, room, collection.c_size_t(400))
        said = room.value.decode(errors="replace")
        if not said:
            break
        if not said.startswith("note"):
            return said
        notes.append(":".join(said.split(":")[:2]))
    if problems:
        return f"wrong result: {problems[0]}"
    return next((note for note in notes if note not in mutant.notes), None)


def isolated(libcuda, mode, mutant, limit):
    """`attempt` in a process of its own; "CRASH" or "HANG" when it does not come back."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, 1)
        os.dup2(silent, 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        said = attempt(libcuda, mode, mutant, limit)
        os.write(writer, ("-" if said is None else "+" + said).encode()[:4000])
        os._exit(0)
    os.close(writer)
    ready, _, _ = select.select([reader], [], [], 60)
    if not ready:
        os.kill(child, signal.SIGKILL)
    data = os.read(reader, 4096).decode() if ready else ""
    os.close(reader)
    os.waitpid(child, 0)
    if not data:
        return "CRASH" if ready else "HANG"
    return None if data[0] == "-" else data[1:]


def verdict(options, mutant):
    """The first thing that some mode says of the mutant, and the mode; (None, None) when all are silent, ("unused", None)
    when no mode executes the instruction. Which instructions a generated kernel executes depends on no mode."""
    trap = Mutant(mutant.kernel, "", mutant.case, mutant.trap) if mutant.trap else None
    for number, mode in enumerate(modes(options.seeds)):
        said = isolated(options.libcuda, mode, mutant, options.limit)
        if said is not None:
            return said, mode
        if trap and mutant.case.get("generated") and number == 0 and isolated(options.libcuda, mode, trap, options.limit) is None:
            return "unused", None
    if trap and all(isolated(options.libcuda, mode, trap, options.limit) is None for mode in modes(options.seeds)):
        return "unused", None
    return None, None


def own_notes(options, kernel):
    """Kinds of notes that the right kernel has."""
    case = collection.read_case(options.folder / f"{kernel}.json")
    right, notes = Mutant(kernel, "", case, (options.folder / case["ptx"]).read_text()), []
    for mode in modes(options.seeds):
        right.notes = notes
        said = isolated(options.libcuda, mode, right, options.limit)
        if said and said.startswith("note"):
            notes.append(said)
        elif said:
            sys.exit(f"{kernel} itself is found at fault with {mode}: {said}")
    return notes


def equivalents(path):
    """Lines `kernel line opcode: name | reason`, by what stands before the bar."""
    known = {}
    for line in path.read_text().splitlines():
        if line and line[0] != "#":
            name, reason = line.split(" | ", 1)
            known[name] = reason
    return known


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--libcuda", required=True)
    parser.add_argument("kernels", nargs="*")
    parser.add_argument("--sample", type=int, nargs=2, metavar=("OF", "REST"), help="only every OF-th mutant")
    parser.add_argument("--seeds", type=int, default=32, help="random seeds per mode (default 32)")
    parser.add_argument("--limit", type=int, default=400000, help="warp instructions after which a launch is stopped")
    parser.add_argument("--folder", type=Path, default=HERE, help="where the kernels lie (the collection)")
    parser.add_argument("--equivalent", type=Path, default=HERE / "equivalent.txt", help="which mutants are no faults")
    parser.add_argument("--table", action="store_true", help="print the score of every kernel")
    parser.add_argument("--verbose", action="store_true", help="print how each mutant is found")
    options = parser.parse_args()
    kernels = options.kernels or sorted(p.stem for p in options.folder.glob("*.json"))
    known, begin = equivalents(options.equivalent), time.time()
    found, refused, broken, survived, seen, notes, unused = collections.Counter(), [], [], [], set(), {}, 0
    score = {kernel: collections.Counter() for kernel in kernels}
    for number, mutant in enumerate(mutants(options.folder, kernels)):
        seen.add(mutant.name)
        if options.sample and number % options.sample[0] != options.sample[1]:
            continue
        if mutant.kernel not in notes:
            notes[mutant.kernel] = own_notes(options, mutant.kernel)
        mutant.notes = notes[mutant.kernel]
        said, mode = verdict(options, mutant)
        if said == "unused":
            unused += 1
            continue
        if options.verbose:
            print(f"{mutant.name}: {said or 'SURVIVES'}  {' '.join(mode.values()) if said else ''}", flush=True)
        if said == "refused":
            refused.append(mutant.name)
        elif said in ("CRASH", "HANG"):
            broken.append(f"{mutant.name}: {said}")
        elif said is None:
            survived.append(mutant.name)
            reason = known.get(mutant.name, "not judged: ")
            score[mutant.kernel]["survives" if reason.startswith("not judged: ") else "equivalent"] += 1
        else:
            score[mutant.kernel]["found"] += 1
            found["note" if said.startswith("note") else said.split(":")[0]] += 1
    unexplained = [name for name in survived if name not in known]
    missed = [name for name in survived if known.get(name, "").startswith("not judged: ")]
    stale = [name for name in known if name.split(" ")[0] in kernels and (name not in seen or not options.sample and name not in survived)]
    total = sum(found.values()) + len(survived)
    faults = sum(found.values()) + len(unexplained) + len(missed)
    for title, names in (("survives", unexplained), ("error of the emulator", broken), ("stale in equivalent.txt", stale)):
        for name in names:
            print(f"{title}: {name}")
    for kernel, counts in score.items() if options.table else ():
        of = counts["found"] + counts["survives"]
        share = f"{100.0 * counts['found'] / of:.1f} %" if of else "no mutant"
        print(f"| {kernel} | {counts['found']} | {counts['equivalent']} | {counts['survives']} | {share} |")
    print(f"how: {', '.join(f'{how} {count}' for how, count in found.most_common())}")
    print(
        f"{total} mutants, {sum(found.values())} found, {total - faults} equivalent, {len(missed)} not judged, "
        f"{len(unexplained)} survive: score {100.0 * sum(found.values()) / max(faults, 1):.1f} %; no mutants: {unused} not "
        f"executed, {len(refused)} refused as PTX; {len(broken)} crashed or hung; {time.time() - begin:.0f} s"
    )
    return 1 if unexplained or broken or stale else 0


if __name__ == "__main__":
    sys.exit(main())
