#!/usr/bin/env python3
"""Shows that the tests of GPU kernels notice mistakes in the emitters.

    seeded_bugs.py write OUTPUT          the emitters with every bug below behind a number, as one source file
    seeded_bugs.py run PROGRAM [BUG]...  runs the tests, linked with that file, with each bug; then without, those that failed

A bug replaces what stands between << and >> in one emitter of lowering/GPU by something plausible; the emitters of moec
are not touched. The tests run until the first fails, on the emulated card that has the kernel. A bug that no test notices,
and one that crashes the program, make the exit code 1. Part of ./dev test.
"""

import argparse
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

EMITTERS = Path(__file__).resolve().parents[3] / "lowering/GPU"

# Emitter: the tests that run its kernels, and where.
FILES = {
    "MatmulKernel": ("*GpuMatmul*", "a100"),
    "Tiles": ("*GpuMatmul*", "a100"),
    "WarpgroupMatmul": ("*GpuMatmul*", "h100"),
    "Pipeline": ("*GpuMatmul*", "h100"),
    "Mma": ("*GpuMatmul*", "h100"),
    "RowKernels": ("*GpuRow*", "a100"),
    "AttentionKernel": ("GpuAttentionTest.*", "a100"),
    "TiledAttention": ("GpuAttentionTest.*", "a100"),
    "WarpAttention": ("GpuAttentionTest.*", "a100"),
    "RoutingKernels": ("*GpuRow*.*Route*:*GpuRow*.*S*:GpuRoute*", "a100"),
    "SortKernel": ("*GpuRow*.*Sort*:GpuRoute*Sort*", "a100"),
    "PickKernel": ("*GpuRow*.Pick*", "a100"),
    "RankKernels": ("*GpuRow*.*Padding*:*GpuRankShapes*", "a100"),
    "WeightKernels": ("*GpuRow*:*GpuRankShapes*", "a100"),
}

# (emitter, what is wrong, the text with the place marked, what stands there instead)
BUGS = [
    ("MatmulKernel", "tile of outputs off by one", "Int n0 = (<<index - first>>) * tile.outputs;", "index - first + 1"),
    ("MatmulKernel", "dropped tail of tokens", "denseTo = <<b.min(denseFrom + tile.rows, rows)>>;", "b.min(denseFrom + tile.rows, rows / 8 * 8)"),
    ("MatmulKernel", "wrong weight row", "b.at(weight, <<b.min(n + i, segment.n - 1)>> * k, type)", "b.min(n + i + 1, segment.n - 1)"),
    ("MatmulKernel", "last outputs of a tile dropped", "end = b.min(n0 + tile.outputs, <<segment.n>>);", "segment.n - 1"),
    ("MatmulKernel", "missing residual", "value = b.loadScalar(residual, offset, b.f32()) + <<value>>;", "Num(b.number(0.0))"),
    ("MatmulKernel", "residual of another row", "value = b.loadScalar(residual, <<offset>>, b.f32())", "n"),
    ("MatmulKernel", "bias of another output", "b.loadScalar(segment.bias, <<n>>, kernel.bias)", "n / 2 * 2"),
    ("MatmulKernel", "up instead of gate", "sums = dotRows(<<segment.weight>>, kernel.weight, n, xs)", "kernel.gated ? segment.up : segment.weight"),
    ("MatmulKernel", "gate taken for up", "up = b.loadScalar(<<sumsOf(1)>>, at, b.f32());", "sumsOf(0)"),
    ("MatmulKernel", "bounds of the expert's place in the list", "from = b.loadI32(offsets, <<expert>>),", "index"),
    ("MatmulKernel", "last row of every expert dropped", "to = <<b.loadI32(offsets, expert + 1)>>;", "b.loadI32(offsets, expert + 1) - 1"),
    ("MatmulKernel", "weights of another expert", "*table = b.loadPointer(*table, <<expert>>);", "expert * 0"),
    ("MatmulKernel", "a tile of the list forgotten", "end - firstTile + <<tileStep - 1>>, b.i64(0))", "b.i64(0)"),
    ("MatmulKernel", "the entry before", "b.at(list, (<<entry + 1>>) * entrySize,", "b.max(entry, b.i64(1))"),
    ("MatmulKernel", "rows in the order of the list", "row = <<band + inBand - column * height>>;", "ordinal"),
    ("MatmulKernel", "second band over the first", "Int from = begin + <<row>> * rowsOfTile;", "(row - band)"),
    ("MatmulKernel", "last tile of an expert runs on", "body(number, from, <<b.min(from + rowsOfTile, begin + rows)>>,", "from + rowsOfTile"),
    ("MatmulKernel", "slot taken for token", "<<b.loadI32(slots, r) / topK>> : r;", "b.loadI32(slots, r)"),
    ("MatmulKernel", "results not scattered", "!kernel.tokenRows ? <<b.loadI32(slots, r)>> : r;", "r"),
    ("MatmulKernel", "width of another segment", "segment.n = b.select(here, segment.n, <<s.n>>);", "segment.n"),
    ("MatmulKernel", "second half of a tile's sums", "Int at = <<row>> * sumStride + column;", "row % 32"),
    ("Tiles", "stale stage", "tiles.push_back(tileAt(<<step>>, source));", "step + (stages - 1)"),
    ("Tiles", "copies a step late", "issue(<<step + (stages - 1)>>);", "step + (stages - 2)"),
    ("Tiles", "tail of K not cleared", "Int bytes = <<b.select(at < k, b.i64(16), b.i64(0))>>,", "b.i64(16)"),
    ("Tiles", "wrong half of K in a fragment", "p = <<b.lane / 16>> + k / SharedTile::piece;", "b.lane / 8 % 2"),
    ("Tiles", "neighbouring outputs exchanged", "c = column0 + (column + <<i % 2>>)", "1 - i % 2"),
    ("Tiles", "lower rows of a fragment stored twice", "r = row0 + (row + <<i / 2 * 8>>)", "i * 0"),
    ("WarpgroupMatmul", "each round the first tiles", "firstTile = <<round * each>> + place;", "round * 0"),
    ("WarpgroupMatmul", "a workgroup's number for its place in the round", "firstTile = round * each + <<place>>;", "b.workgroup"),
    ("WarpgroupMatmul", "a round goes on into the next one's tiles", "return b.min(all, <<(round + tileStep) * each>>);", "all"),
    ("WarpgroupMatmul", "last round as wide as the others", "tileStep = <<b.min(atOnce, b.gridSize() - round)>>;", "atOnce"),
    ("WarpgroupMatmul", "tiles beyond what comes out even forgotten", "each = b.quickDiv(all + <<b.gridSize() - 1>>, b.gridSize()),", "b.i64(0)"),
    ("WarpgroupMatmul", "wrong interleave of gate and up", "at = <<4 * (pair + weight * pairs)>> + 2 * upper;", "4 * (weights() * pair + weight)"),
    ("WarpgroupMatmul", "second warpgroup multiplies the first one's rows", "Int ownRows = <<group * WarpgroupMma::rows>>;", "group * 0"),
    ("WarpgroupMatmul", "box of weights off by one row", "copyBox(b, tile, segment.weight, <<n0>>, column,", "n0 + 1"),
    ("WarpgroupMatmul", "box of up from the first outputs", "segment.up, <<n0>>, column, ring.full(now));", "n0 * 0"),
    ("WarpgroupMatmul", "box of weights a step behind", "copyBox(b, tile, segment.weight, n0, <<column>>,", "column - SwizzledTile::depth"),
    ("WarpgroupMatmul", "bytes of one weight announced for two", "ring.expect(now, <<weights()>> *", "int64_t(1)"),
    ("WarpgroupMatmul", "upper rows of a fragment forgotten", "WarpgroupMma::row(b) + <<upper>> * WarpgroupMma::rowDistance;", "upper * 0"),
    ("WarpgroupMatmul", "told that a stage is full too early", "ring.fill(<<now - stepsUnderWay>>);", "now"),
    ("WarpgroupMatmul", "pieces of x in another order than wgmma reads", "SwizzledTile::pieceAddress(b, stage, firstRow + static_cast<int64_t>(i) * rowsAtOnce, <<p>>);", "p * -1 + (SwizzledTile::pieces - 1)"),
    ("Pipeline", "stale stage: the phase before", "wait(full(step), <<step / stages % 2>>);", "(step / stages + 1) % 2"),
    ("Pipeline", "stages overlap", "barriers(memory + stages * stageBytes), stageBytes(<<stageBytes>>)", "stageBytes - 128"),
    ("Mma", "descriptor steps as if K were the outer dim", "<<k / depth * SwizzledTile::descriptorStep>>", "k / depth * 128"),
    ("RowKernels", "embedding of another token", "b.at(rows, <<token * h>>, kernel.table)", "b.workgroup * h"),
    ("RowKernels", "row not gathered", "b.at(x, <<row * h>>, b.f32())", "b.workgroup * h"),
    ("RowKernels", "combine takes the slots of another token", "Int slot = <<token * k + j>>;", "token + j * k"),
    ("RowKernels", "combine without its residual", "value = b.loadScalar(base, token * h + i, b.f32()) + <<value>>;", "Num(b.number(0.0))"),
    ("RowKernels", "norm without epsilon", "b.sqrt(<<mean + eps>>)", "mean"),
    ("RowKernels", "norm over another width", "/ b.toFloat(<<n>>);", "n + 1"),
    ("RowKernels", "sign of a rotation", "b.select(isFirst, straight - crossed, <<straight + crossed>>)", "straight - crossed"),
    ("RowKernels", "angle of the wrong pair", "turned < half, turned, <<turned - half>>)", "turned / 2"),
    ("RowKernels", "cache of another sequence", "Int row = <<b.loadI32(seq, b.workgroup) * context>> +", "b.loadI32(seq, b.workgroup) * 0"),
    ("AttentionKernel", "own key masked", "b.select(<<pos < p>>, b.number(-INFINITY)", "Value(pos - 1 < p)"),
    ("AttentionKernel", "window a key too long", "b.max(<<pos - window + 1>>, b.i64(0))", "pos - window"),
    ("AttentionKernel", "missing scale", "<<b.loadScalar(q, row + i, kernel.x) * scale>>", "b.loadScalar(q, row + i, kernel.x)"),
    ("AttentionKernel", "keys of another head", "head = <<queryHead / perHead>>;", "queryHead % g"),
    ("AttentionKernel", "sink without weight", "sum = <<b.exp(sink - largest)>>;", "Num(b.number(0.0))"),
    ("AttentionKernel", "old sums not rescaled", "next.push_back(Num{&b, value} * <<factor>>);", "Num(b.number(1.0))"),
    ("AttentionKernel", "states of warps added unscaled", "factor = b.exp(<<factor - largest>>);", "factor - factor"),
    ("TiledAttention", "stale stage", "Int stage = <<(first - run.firstKey) / keyCount % blockStages>>;", "((first - run.firstKey) / keyCount + 1) % blockStages"),
    ("TiledAttention", "own key unseen", "b.select(isOf(run, i), <<rowKeys[i].to>>, b.i64(0))", "rowKeys[i].to - 1"),
    ("TiledAttention", "keys unseen, but not finite, in the sums", "b.barrierAll(<<isRight(run, isOne, state)>>);", "b.flag(true)"),
    ("TiledAttention", "sums of one dim looked at", "b.fma(<<state.sums[piece * 4 + j]>>, zero, probe);", "state.sums[0]"),
    ("TiledAttention", "a row that is what it must be excuses the other", "b.both(areMeant, <<b.either(b.negate(isOf(run, i)), isMeant)>>);", "i > 0 ? areMeant : b.either(b.negate(isOf(run, i)), isMeant)"),
    ("TiledAttention", "tokens of a turn that is taken back lost", "b.select(isDone, rest, <<single>>);", "rest"),
    ("TiledAttention", "the first token alone of a turn that is taken back", "(b.i64(blockRows) - <<(end - begin)>>)", "b.i64(1)"),
    ("TiledAttention", "keys of another sequence seen", "b.both(isRow[i], <<b.both(run.begin < rowToken[i] + 1, rowToken[i] < run.end)>>);", "isRow[i]"),
    ("TiledAttention", "rows of another head", "rowHead.push_back(head * perHead + firstHead + <<real % heads>>);", "real / tokens"),
    ("TiledAttention", "dropped tail of a split", "return {from, b.min(<<from + perSplit>>, end)};", "from + perSplit - 1"),
    ("TiledAttention", "states of all splits in one place", "rowHead[i]) * kernel.splits + <<split>>;", "split * 0"),
    ("TiledAttention", "keys of a run from its last token", "least = half == 0 ? own.from : <<b.min(least, own.from)>>;", "b.max(least, own.from)"),
    ("TiledAttention", "states of warps added unscaled", "factor = b.exp2(<<factor - largest>>);", "factor - factor"),
    ("TiledAttention", "every split the first", "* kernel.splits + <<split>>) * width, b.f32());\n    b.ifThen", "split * 0"),
    ("TiledAttention", "last split forgotten", "Int splits = <<b.ceilDiv(count, keysPerSplit(b, count, kernel.splits))>>;", "b.max(b.ceilDiv(count, keysPerSplit(b, count, kernel.splits)) - 1, b.i64(1))"),
    ("TiledAttention", "sink without weight", "Num total = sinks ? <<b.exp2(sink - largest)>> : b.number(0.0);", "Num(b.number(0.0))"),
    ("TiledAttention", "wrong scale", "scale = b.nextFloat() * <<b.number(log2e)>>;", "b.number(1.0)"),
    ("WarpAttention", "wrong half of the dims in a fragment", "p = <<b.lane / 8 % 2>> + step * 2;", "b.lane / 16"),
    ("WarpAttention", "wrong half of the dims of queries in shared memory", "p = <<b.lane / rows>> + step * 2;", "b.lane / 8 % 2"),
    ("TiledAttention", "queries of another warp", "b.at(all, <<b.warp>> * layout.queries.elements(),", "b.min(b.warp, b.i64(2))"),
    ("WarpAttention", "values of other keys than the weights", "Int key = <<b.lane % 16>> + static_cast<int64_t>(step) * 16, p =", "b.lane / 2"),
    ("RoutingKernels", "ties to the highest expert", "b.both(b.equal(top, other), <<otherIndex < index>>)", "Value(index < otherIndex)"),
    ("RoutingKernels", "the bias weighs too", "b.storeScalar(<<b.loadScalar(scores, best, b.f32())>>, chosen, j, b.f32());", "b.loadScalar(choices, best, b.f32())"),
    ("RoutingKernels", "missing routed scale", "Num factor = <<scale>>;", "Num(b.number(1.0))"),
    ("RoutingKernels", "every choice the first", "b.storeI32(first + best, experts, b.workgroup * k + <<j>>);", "j * 0"),
    ("SortKernel", "offsets at the ends", "b.storeI32(<<start>>, offsets, expert);", "start + count"),
    ("SortKernel", "list of active experts without its length", "b.storeI32(expert, list, unit + <<1>>);", "0"),
    ("SortKernel", "places do not go on", "b.storeI32(<<first + number>>, table, at);", "first"),
    ("SortKernel", "sections share their counts", "Int at = <<b.warp * e + b.max(expert, b.i64(0))>>, first", "b.max(expert, b.i64(0))"),
    ("SortKernel", "tiles numbered through all experts", "<<tile - b.loadI32(begins, expert)>>, start,", "tile"),
    ("SortKernel", "first tile taken for one of the expert before", "b.loadI32(begins, b.min(further, e - 1)) < <<tile + 1>>);", "tile"),
    ("SortKernel", "last section forgotten", "used = <<b.ceilDiv(choices, section)>>;", "b.max(choices / section, b.i64(1))"),
    ("RoutingKernels", "pairs counted in both orders", "add(pairs, <<b.min(expert, other) * e + b.max(expert, other)>>, one);", "expert * e + other"),
    ("RankKernels", "slots of all ranks", "Int own = slot - <<rank * perRank>>,", "rank * 0"),
    ("RankKernels", "shares forgotten", "return next * <<b.loadI32(shares, replica)>>", "b.i64(1)"),
    ("RankKernels", "choices of a tile dropped", "b.max(<<b.ceilDiv(b.ceilDiv(count, sections), warpSize)>>, b.i64(1))", "b.ceilDiv(count, sections) / KernelBuilder::warpSize"),
    ("RankKernels", "counts of other ranks", "Int counted = <<countOwn ? Int{&b, own[0]} : count>>;", "count"),
    ("RankKernels", "counts of one period", "times = <<periods + b.select(i < left, one, zero)>>;", "one"),
    ("RankKernels", "sections before this one forgotten", "b.storeI32(<<sum>>, table, at);", "zero"),
    ("RankKernels", "choices of the next 32 from the same place", "b.storeI32(<<before + same>>, table, at);", "before"),
    ("RankKernels", "orders of experts in one place", "Int place = <<order + before>>;", "order"),
    ("RankKernels", "orders of later experts where the first are", "return <<order + all>>;", "order"),
    ("RankKernels", "the next tile begins a period", "b.select(zero < periods, <<left>>, zero)", "zero"),
    ("RankKernels", "warps before this one forgotten", "mine = <<mine + b.select(b.i64(w) < b.warp, partial, zero)>>;", "mine"),
    ("RankKernels", "results of another source", "<<(source * tokens + first)>> * k, here * k", "first"),
    ("RankKernels", "rows of an earlier tile again", "{<<row + rowsBefore>>, choice + choicesBefore}", "rowsBefore"),
    ("RankKernels", "rows taken for choices", "b.storeI32(<<Int{&b, toTarget[0]} - Int{&b, carried[0]}>>, sendCounts", "Int{&b, toTarget[1]} - Int{&b, carried[1]}"),
    ("RankKernels", "lists not filled up", "fill(sendRows, {&b, sent[0]}, <<sendRoom * tokens>>);", "Int{&b, sent[0]}"),
    ("WeightKernels", "a missing row is left", "copyBytes(b, <<Value()>>, into, bytes);", "into"),
    ("WeightKernels", "a row of the list's place", "row = <<b.loadI32(list, b.workgroup)>>;", "b.min(b.loadI32(list, b.workgroup), b.workgroup)"),
    ("PickKernel", "of equal logits the last", "Value more = <<b.less(found.value, value)>>;", "b.negate(b.less(value, found.value))"),
    ("PickKernel", "of equal logits that of the later warp", "b.both(b.equal(mine, other), <<isBefore>>)", "b.negate(isBefore)"),
    ("PickKernel", "tail of a row dropped", "Int rest{&b, <<state.pop_back_val()>>};", "(state.pop_back(), count.value)"),
    ("PickKernel", "the place of a turn's first load", "b.i32(<<i * b.threads>>)", "0"),
    ("PickKernel", "a NaN overlooked", "b.both(found.noNaN, <<b.equal(value, value)>>)", "b.flag(true)"),
    ("PickKernel", "the place of a NaN as if it were the largest", "b.storeI32(<<b.i64(-1) - b.fromI32(first[0])>>, out", "b.fromI32(first[0])"),
    ("RankKernels", "another sequence is padding", "== <<sequences - 1>>;", "sequences - 2"),
    ("WeightKernels", "part of another rank", "<<rank / copies * bytes>>,", "rank * bytes"),
    ("WeightKernels", "factors do not repeat", "<<b.workgroup % length>>;", "b.workgroup * 0"),
    ("WeightKernels", "rows without their stride", "Num sum = b.loadScalar(from.front(), <<row + i>>, kernel.ins.front());", "i"),
    ("WeightKernels", "product with the transpose", "b.loadScalar(right, <<j * n + i>>, kernel.rhs)", "i * k + j"),
]  # fmt: skip

MAIN = """
#include "gtest/gtest.h"
int main(int argc, char **argv) {
  testing::InitGoogleTest(&argc, argv);
  moeSeededBug = argc > 1 ? std::atoi(argv[1]) : -1;
  return RUN_ALL_TESTS();
}
"""


def write(output):
    """One file, so that headers are read once."""
    parts = ["// Made by seeded_bugs.py.\n#include <cstdlib>\nstatic int moeSeededBug = -1;\n"]
    for name in FILES:
        text = (EMITTERS / f"{name}.cpp").read_text()
        edits = []
        for number, (emitter, what, marked, new) in enumerate(BUGS):
            if emitter != name:
                continue
            before, old, behind = re.split("<<|>>", marked, maxsplit=2)
            if text.count(before + old + behind) != 1:
                sys.exit(f"{name}.cpp has not once what '{what}' replaces: {before}{old}{behind}")
            at = text.index(before + old + behind) + len(before)
            edits.append((at, at + len(old), f"(moeSeededBug == {number} ? ({new}) : ({old}))"))
        for begin, end, new in sorted(edits, reverse=True):
            text = text[:begin] + new + text[end:]
        parts.append(text)
    Path(output).write_text("".join(parts) + MAIN)


def attempt(program, number, filter_, device):
    """(exit status, output) of the tests with that bug; they stop at the first failure."""
    environment = dict(os.environ, MOE_EMU_DEVICE=device, MOE_EMU_UNDEFINED_COPIES="finding", MOE_EMU_PROXY_FENCES="all", MOE_EMU_LOG="off",
                       MOE_EMU_STEP_LIMIT="20000000", GTEST_OUTPUT="")  # fmt: skip
    command = [program, str(number), f"--gtest_filter={filter_}", "--gtest_fail_fast"]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors="replace", check=False, timeout=500)  # fmt: skip
    return done.returncode, done.stdout


def judge(status, output):
    """(what became of a run with a bug, the test that failed or None)."""
    if status not in (0, 1):
        return f"the program ended with {status}\n{output[-1000:]}", None
    test = re.search(r"\[  FAILED  \] ([\w./]+)", output)
    if status == 0 or not test:
        return "NOT NOTICED", None
    reason = re.search(r"Failure\n(.*(?:\n.*)?)", output)
    return f"{test[1]}: {' '.join(reason[1].split())[:100] if reason else ''}", test[1]


def run(program, chosen):
    failures, noticed = 0, {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        runs = pool.map(lambda number: attempt(program, number, *FILES[BUGS[number][0]]), chosen)
        for number, (status, output) in zip(chosen, runs):
            verdict, test = judge(status, output)
            print(f"{BUGS[number][0]}: {BUGS[number][1]}: {verdict}", flush=True)
            failures += test is None
            noticed.setdefault(FILES[BUGS[number][0]][1], set()).add(test)
    # The same tests pass without a bug.
    for device, tests in noticed.items():
        status, output = attempt(program, -1, ":".join(sorted(tests - {None})), device)
        if status != 0:
            failures += 1
            print(f"without a bug, on {device}: {output[-3000:]}")
    print(f"{len(chosen)} bugs, {failures} failures")
    return 1 if failures else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["write", "run"])
    parser.add_argument("file")
    parser.add_argument("bugs", nargs="*", help="words of bugs to run (all)")
    options = parser.parse_args()
    if options.command == "write":
        return write(options.file)
    chosen = [n for n, bug in enumerate(BUGS) if not options.bugs or any(word in f"{bug[0]}: {bug[1]}" for word in options.bugs)]
    return run(options.file, chosen)


if __name__ == "__main__":
    sys.exit(main())
