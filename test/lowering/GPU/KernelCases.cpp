//===- KernelCases.cpp - Writes kernels as cases that mutate.py breaks ----===//
//
//   gpu-kernel-cases --cases=FOLDER
//
// One small launch of every kernel that is emitted, in the form of the emulator's
// collection (test/runtime/emulator/kernels/README.md): the PTX of both targets
// with operands and results. Results are those of a run without findings; that
// they are right, the other tests of this folder say. Sizes are the least at
// which every wait and barrier has something to wait for: more steps along K than
// a ring has stages, a second tile of rows, more experts than lanes.
//
// A kernel whose text is the same for both targets is written once, but for its
// wait for the kernels before it, which KernelHarness.h tests for all of them;
// those that are written for a target that launches kernels early run behind
// KernelBefore.h's.
//
//===----------------------------------------------------------------------===//

#include "test/lowering/GPU/KernelHarness.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/raw_ostream.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::gpu;
using namespace mlir::moe::gpu::test;

namespace {

std::string folder; ///< of the option

class GpuKernelCases : public KernelTest, public testing::WithParamInterface<size_t> {
protected:
  GpuKernelCases() : KernelTest(allTargets()[GetParam()]) {}

  static bool writeFile(const Twine &path, StringRef text) {
    std::error_code error;
    llvm::raw_fd_ostream stream(path.str(), error);
    stream << text;
    return !error;
  }

  /// `bytes` as the numbers that run.py packs.
  static llvm::json::Array numbers(StringRef bytes, bool words) {
    llvm::json::Array list;
    for (size_t i = 0; i < bytes.size(); i += words ? 4 : 1) {
      uint32_t value = 0;
      std::memcpy(&value, bytes.data() + i, words ? 4 : 1);
      list.push_back(static_cast<int64_t>(value));
    }
    return list;
  }
  static llvm::json::Object buffer(StringRef before, StringRef after, bool isDefined) {
    const bool words = before.size() % 4 == 0;
    llvm::json::Object made{{"type", words ? "u32" : "u8"}};
    if (isDefined) {
      made["in"] = numbers(before, words);
    } else {
      made["count"] = static_cast<int64_t>(before.size() / (words ? 4 : 1));
    }
    if (before != after || !isDefined) {
      made["out"] = numbers(after, words);
    }
    return made;
  }

  std::map<std::string, int> written; ///< cases of a kernel

  /// What every kernel promises of its text, whatever it computes: nothing in local memory, no call, no memory of
  /// others.
  void checkText(const kernels::Kernel &kernel, const std::string &text) {
    for (const char *unwanted : {".local", "call", ".extern .global", ".extern .func", "\tatom.", "\tred."}) {
      EXPECT_EQ(text.find(unwanted), std::string::npos) << unwanted;
    }
    EXPECT_NE(text.find(".reqntid " + std::to_string(getThreads(target, kernel))), std::string::npos);
    auto *matmul = std::get_if<kernels::Matmul>(&kernel);
    if (!matmul) {
      return;
    }
    std::vector<std::string> promised{"ld.global.nc.v4.b32"};
    if (usesWarpgroups(target, *matmul)) {
      promised = {"wgmma.mma_async.sync.aligned.m64n", "cp.async.bulk.tensor.2d.shared::cluster.global",
                  "setmaxnreg.inc"};
    } else if (isTiled(*matmul)) {
      promised = {"mma.sync.aligned.m16n8k16", "ldmatrix.sync.aligned.m8n8.x4", "cp.async.cg.shared.global"};
    }
    for (const std::string &words : promised) {
      EXPECT_NE(text.find(words), std::string::npos) << words;
    }
  }

  /// Runs `kernel` and writes it with `arguments` and what it made of them.
  void write(const kernels::Kernel &kernel, int64_t workgroups, const std::vector<Argument> &arguments) {
    std::string name, text = translate(kernel, name);
    SCOPED_TRACE(name);
    checkText(kernel, text);
    auto code = [](StringRef ptx) {
      std::string text;
      for (StringRef line : llvm::split(ptx.substr(ptx.find(".visible")), '\n')) {
        text += line.contains("griddepcontrol") ? "" : line.str() + "\n";
      }
      return text;
    };
    if (GetParam() > 0) {
      GpuCatalogue first(&mlir, allTargets().front());
      first.use(kernel);
      if (FailureOr<std::string> base = first.compile(); succeeded(base) && code(*base) == code(text)) {
        return;
      }
    }
    std::vector<std::string> before;
    for (const Argument &argument : arguments) {
      before.emplace_back(argument.data ? std::string(argument.data, argument.bytes) : "");
    }
    launch(text, name, kernel, workgroups, arguments);
    ASSERT_EQ(allFindings(), "") << name;
    ASSERT_EQ(outcome, CUDA_SUCCESS) << name << ": " << moeEmulatorLastError();

    auto *matmul = std::get_if<kernels::Matmul>(&kernel);
    const int64_t box = matmul ? catalogue.weightBox(*matmul) : 0;
    llvm::json::Object buffers;
    llvm::json::Array operands, changing;
    for (size_t i = 0; i < arguments.size(); ++i) {
      const Argument &argument = arguments[i];
      if (argument.kind == Argument::Word) {
        operands.push_back(llvm::json::Object{{"type", "i64"}, {"value", static_cast<int64_t>(argument.word)}});
        continue;
      }
      const bool usesMaps = box > 0 && argument.rows > 0, isList = usesMaps || argument.kind == Argument::Table;
      // In the order of operands; what a list names comes before the list.
      const std::string own = llvm::formatv("{0,0+2}", i).str() + (isList ? "list" : "");
      operands.push_back(llvm::json::Object{{"buffer", own}});
      if (!isList) {
        if (argument.isWrittenBefore()) {
          changing.push_back(own);
        }
        buffers[own] = buffer(before[i], StringRef(argument.data, argument.bytes), argument.kind != Argument::Out);
        continue;
      }
      llvm::json::Array entries;
      auto add = [&](StringRef data) {
        const std::string entry = llvm::formatv("{0,0+2}_{1}", i, entries.size()).str();
        buffers[entry] = buffer(data, data, true);
        if (!usesMaps) {
          entries.push_back(entry);
          return;
        }
        entries.push_back(llvm::json::Object{{"buffer", entry},
                                             {"type", "bf16"},
                                             {"dims", llvm::json::Array{argument.columns, argument.rows}},
                                             {"strides", llvm::json::Array{argument.columns * 2}},
                                             {"box", llvm::json::Array{64, box}},
                                             {"elementStrides", llvm::json::Array{1, 1}},
                                             {"swizzle", "128B"}});
      };
      for (const Tensor *tensor : argument.entries) {
        add({tensor->data.data(), tensor->data.size()});
      }
      if (argument.kind != Argument::Table) {
        add(before[i]);
      }
      buffers[own] = llvm::json::Object{{"type", usesMaps ? "tensorMaps" : "pointers"}, {"in", std::move(entries)}};
    }
    const StringRef suffix = target.name.substr(target.name.find(':') + 1);
    const std::string number = ++written[name] > 1 ? "." + std::to_string(written[name]) : "";
    const std::string file = (name + "." + suffix + number).str();
    llvm::json::Object all{{"kernel", name},
                           {"ptx", file + ".ptx"},
                           {"target", suffix},
                           {"generated", true},
                           {"grid", llvm::json::Array{workgroups, 1, 1}},
                           {"block", llvm::json::Array{getThreads(target, kernel), 1, 1}},
                           {"dynamicShared", getSharedBytes(target, kernel)},
                           {"buffers", std::move(buffers)},
                           {"arguments", std::move(operands)}};
    if (target.launchesEarly && !changing.empty()) {
      all["before"] = llvm::json::Object{
          {"ptx", "before.ptx"}, {"kernel", "before"}, {"threads", 128}, {"buffers", std::move(changing)}};
      EXPECT_TRUE(writeFile(folder + "/before.ptx", kernelBefore));
    }
    std::string json;
    llvm::raw_string_ostream(json) << llvm::json::Value(std::move(all)) << "\n";
    EXPECT_TRUE(writeFile(folder + "/" + file + ".ptx", text) && writeFile(folder + "/" + file + ".json", json))
        << file;
  }

  kernels::Matmul product(bool many, bool gated, Type type, int64_t k, int64_t n) {
    kernels::Matmul kernel;
    kernel.x = type;
    kernel.weight = kernel.out = bf16;
    kernel.many = many;
    kernel.gated = gated;
    kernel.up = gated ? bf16 : Type();
    if (gated) {
      kernel.activation = Activation::Silu;
    }
    kernel.nDivisible = true;
    catalogue.specialise(kernel, k, n);
    return kernel;
  }
  int64_t workgroups(const kernels::Matmul &kernel, int64_t rows, int64_t n) {
    const kernels::MatmulTile tile = catalogue.matmulTile(kernel);
    return (n + tile.outputs - 1) / tile.outputs * (kernel.many ? (rows + tile.rows - 1) / tile.rows : 1);
  }

  void writeDense(bool many, bool gated, Type type, int64_t rows, int64_t k, int64_t n) {
    kernels::Matmul kernel = product(many, gated, type, k, n);
    kernel.out = f32;
    kernel.residual = !gated;
    Tensor xs = random(type, rows * k), ws = random(bf16, n * k), us = random(bf16, n * k),
           base = random(f32, rows * n), ys(f32, rows * n);
    std::vector<Argument> arguments{in(xs), k, rows, matrix(ws, n, k)};
    if (gated) {
      arguments.push_back(matrix(us, n, k));
    }
    arguments.insert(arguments.end(), {n, out(ys)});
    if (!gated) {
      arguments.push_back(in(base));
    }
    write(kernel, workgroups(kernel, rows, n), arguments);
  }

  /// One expert has all rows.
  void writeExperts(bool many, bool up, Type type, int64_t rows, int64_t k, int64_t n) {
    kernels::Matmul kernel = product(many, up, type, k, n);
    kernel.experts = true;
    kernel.tokenRows = up;
    WorkList work(std::vector<int>(rows, 0), 1);
    Guarded<int32_t> list = work.list(target, kernel);
    Tensor xs = random(type, rows * k), ys(bf16, rows * n);
    std::vector<Tensor> weights, ups;
    weights.push_back(random(bf16, n * k));
    ups.push_back(random(bf16, n * k));
    std::vector<Argument> arguments{
        in(xs), k, in(list), in(work.offsets), in(work.slots), int64_t(1), matrices(weights, n, k)};
    if (up) {
      arguments.push_back(matrices(ups, n, k));
    }
    arguments.insert(arguments.end(), {n, out(ys)});
    write(kernel, 1, arguments); // one tile of outputs, all tiles of rows by one workgroup
  }

  void writeAttention(Type type, int64_t d, int64_t keysOfSequence, bool sinks) {
    const int64_t tokens = 2, context = 140;
    Guarded<int32_t> seq{0, 1}, pos{static_cast<int32_t>(keysOfSequence - 1), 3};
    Tensor qs = random(type, tokens * d), keys = random(type, 2 * context * d), values = random(type, 2 * context * d),
           ys(type, tokens * d), sink = random(bf16, 1);
    std::vector<Argument> arguments{in(qs), in(seq),    in(pos),    in(keys), in(values), out(ys),
                                    tokens, int64_t(1), int64_t(1), context,  0.125f,     int64_t(0)};
    if (sinks) {
      arguments.push_back(in(sink));
    }
    write(kernels::Attention{type, type, sinks ? bf16 : Type(), d, d, false}, tokens, arguments);
  }

  /// On tensor cores: seven tokens of two sequences, or one whose keys are split; `keyCount` keys of the longest.
  /// `some`: the form of many tokens that splits keys too.
  void writeTiledAttention(bool many, int64_t d, int64_t keyCount, bool some = false) {
    const int64_t g = 1, perHead = 2, context = keyCount + 8, tokens = many ? 7 : 1, heads = g * perHead;
    Guarded<int32_t> seq(tokens, 0), pos(tokens, static_cast<int32_t>(keyCount - 1));
    for (int64_t t = 0; many && t < tokens; ++t) {
      seq[t] = t < 5 ? 0 : 1;
      // In the last of several splits both sequences have one tile.
      pos[t] = static_cast<int32_t>(t < 5 ? keyCount - 5 + t : some ? keyCount - 7 + t : t);
    }
    const int64_t rows = many ? 2 * context : context, window = 0;
    Tensor qs = random(bf16, tokens * heads * d), keys = random(bf16, rows * d), values = random(bf16, rows * d),
           ys(bf16, tokens * heads * d);
    kernels::Attention kernel{bf16, bf16, Type(), d, d, many};
    const kernels::AttentionCut cut =
        catalogue.cut(kernel, {g, perHead, context, 1, some ? kernels::Attention::someTokens : 0});
    const bool isSplit = kernel.splits > 0;
    const int64_t count = (tokens + cut.tokens - 1) / cut.tokens * g * cut.parts;
    Tensor states(f32, tokens * heads * kernel.splits * (2 + d)); // what a split without keys leaves alone stays zero
    write(kernel, count,
          {in(qs), in(seq), in(pos), in(keys), in(values), isSplit ? update(states) : out(ys), tokens, g, perHead,
           context, 0.125f, window});
    if (isSplit) {
      write(kernels::JoinSplits{bf16, Type(), d, kernel.splits}, tokens * heads,
            {in(states), in(pos), out(ys), heads, window});
    }
  }

  void writeRoute(kernels::Route kernel, int64_t e, int64_t k, int64_t groups, int64_t keep, int64_t routers) {
    const int64_t tokens = 2;
    Tensor logits = random(f32, tokens * routers * e), bias = random(f32, routers * e);
    Guarded<int32_t> experts(tokens * routers * k);
    Guarded<float> weights(tokens * routers * k);
    std::vector<Argument> arguments{in(logits)};
    if (kernel.bias) {
      arguments.push_back(in(bias));
    }
    arguments.insert(arguments.end(), {out(experts), out(weights), e, k, 1e-20f, 1.5f, groups, keep});
    if (kernel.severalRouters) {
      arguments.push_back(routers);
    }
    write(kernel, tokens * routers, arguments);
  }
};

TEST_P(GpuKernelCases, Products) {
  for (int64_t rows : {1, 5}) { // of one row there is a loop of its own
    writeDense(false, false, bf16, rows, 264, 20);
    writeDense(false, true, bf16, rows, 264, 20);
    writeExperts(false, true, bf16, rows, 40, 12);
    writeExperts(false, false, bf16, rows, 40, 12);
    writeDense(true, false, f32, rows, 40, 20);
  }
  // Every stage of the ring again and again: with one arrival of eight too few at a barrier it takes eight rounds until
  // a phase ends a whole round early. Of experts over two tiles of rows.
  const int64_t k = target.hasWarpgroups ? 2312 : 136, rows = target.hasWarpgroups ? 132 : 70;
  writeDense(true, false, bf16, 20, k, 24);
  writeDense(true, true, bf16, 20, k, 24);
  writeExperts(true, true, bf16, rows, k / 16 * 8 + 8, 24);
  writeExperts(true, false, bf16, rows, k / 16 * 8 + 8, 24);
}

TEST_P(GpuKernelCases, Rows) {
  const int64_t rows = 2, h = 300;
  Guarded<int32_t> tokens{4, 1}, swapped{1, 0}, pos{3, 70}, seq{1, 0};
  Tensor table = random(bf16, 5 * h), xs = random(f32, rows * h), others = random(f32, rows * h), ys(f32, rows * h),
         scale = random(bf16, h);
  write(kernels::Embedding{bf16, f32}, rows, {in(tokens), in(table), out(ys), h});
  write(kernels::GatherRows{}, rows, {in(xs), in(swapped), out(ys), h});
  write(kernels::Add{f32, f32, f32}, rows, {in(xs), in(others), out(ys), h});
  write(kernels::RMSNorm{f32, bf16, f32, ScaleRounding::BeforeWeight}, rows,
        {in(xs), in(scale), out(ys), int64_t(2), h / 2, 1e-5f});
  const int64_t heads = 2, d = 40, half = 20, k = 3;
  Tensor frequencies = random(f32, half), angles = random(f32, rows * 2 * half), heads2 = random(f32, rows * heads * d),
         turned(f32, rows * heads * d), made(f32, rows * 2 * half);
  write(kernels::RopeAngles{}, rows, {in(pos), in(frequencies), out(made), half, 1.25f});
  write(kernels::Rope{f32, false}, rows, {in(heads2), in(angles), out(turned), heads, d, half, int64_t(0)});
  write(kernels::Rope{f32, true}, rows, {in(heads2), in(angles), out(turned), heads, d, half, int64_t(0)});
  const int64_t context = 80;
  Tensor keys = random(bf16, 2 * context * d), values = random(bf16, 2 * context * d);
  write(kernels::CacheWrite{f32, bf16}, rows,
        {in(heads2), in(turned), in(seq), in(pos), update(keys), update(values), d, d, context});
  Tensor parts = random(f32, rows * k * h), weights = random(f32, rows * k);
  write(kernels::Combine{f32, f32, true}, rows, {in(parts), in(weights), out(ys), h, k, in(xs)});
}

TEST_P(GpuKernelCases, Attention) {
  writeAttention(f32, 64, 70, false);
  writeAttention(bf16, 15, 130, true);
  writeTiledAttention(true, 64, 140);
  writeTiledAttention(false, 64, 521);
  writeTiledAttention(true, 64, 521, true);
  // Queries in shared memory, tiles of half as many keys.
  writeTiledAttention(true, 256, 70);
  writeTiledAttention(false, 256, 70);
}

TEST_P(GpuKernelCases, Routing) {
  writeRoute({Score::Softmax, Renormalize::Sum}, 40, 3, 1, 1, 1);
  writeRoute({Score::Sigmoid, Renormalize::Sum, f32, true, GroupScore::Top2Sum}, 120, 4, 3, 2, 1);
  writeRoute({Score::Identity, Renormalize::Softmax, f32, false, GroupScore::Max, true}, 40, 3, 1, 1, 2);
  const int64_t e = 40, k = 2, rows = 40, one = 1;
  // Two rounds of each section of the sort, with the same experts in both.
  for (int64_t tileRows : {0, 16}) {
    const int64_t tokens = 520;
    Guarded<int32_t> choices(tokens * k), sorted(tokens * k), offsets(e + 1), list(4 * (e + tokens * k / 16 + 1));
    for (int64_t i = 0; i < tokens * k; ++i) {
      choices[i] = static_cast<int32_t>(i * i % (e - 1));
    }
    Guarded<int64_t> counts(e, 0);
    write(kernels::SortByExpert{tileRows}, 1,
          {in(choices), tokens, e, k, update(list), out(offsets), out(sorted), update(counts)});
  }
  Guarded<int32_t> ids(rows * k), out32(rows * k), seq(rows);
  for (int64_t i = 0; i < rows * k; ++i) {
    ids[i] = static_cast<int32_t>(i * 7 % (e - 1));
    seq[i / k] = static_cast<int32_t>(i / k % 3);
  }
  Guarded<int64_t> firsts(e, 0), probabilities(e, 0), pairs(e * e, 0);
  Tensor logits = random(f32, rows * e);
  for (bool sigmoid : {false, true}) {
    write(kernels::RoutingStatistics{sigmoid}, 1,
          {in(logits), in(ids), rows, e, k, one, update(firsts), update(probabilities), update(pairs)});
  }
  write(kernels::MaskPadding{}, rows, {in(ids), in(seq), out(out32), k, int64_t(3)});
  // A row with a NaN is read once more.
  const int64_t pickRows = 2, vocabulary = 8300;
  Tensor rowLogits = random(f32, pickRows * vocabulary);
  rowLogits.set(vocabulary + 5000, NAN);
  Guarded<int32_t> picked(pickRows);
  write(kernels::Pick{}, pickRows, {in(rowLogits), out(picked), vocabulary});
  // More experts than threads, some with two replicas.
  const int64_t placed = 300;
  Guarded<int32_t> begins, places, shares, totals;
  for (int64_t i = 0; i < placed; ++i) {
    begins.push_back(static_cast<int32_t>(places.size()));
    for (int64_t r = 0; r <= (i % 3 == 0); ++r) {
      places.push_back(static_cast<int32_t>(places.size()));
      shares.push_back(static_cast<int32_t>(1 + r));
    }
    totals.push_back(i % 3 == 0 ? 3 : 1);
  }
  const int64_t replicas = static_cast<int64_t>(places.size());
  begins.push_back(static_cast<int32_t>(replicas));
  for (Guarded<int32_t> *values : {&begins, &places, &shares, &totals}) {
    *values = Guarded<int32_t>(values->begin(), values->end());
  }
  Guarded<int64_t> taken(placed + replicas), own(placed, 0);
  // More choices than a tile has, of one rank or two.
  const int64_t ranks = 2, tokens = 300, all = 1100;
  Guarded<int32_t> manyIds(all * k), local(all * k);
  for (int64_t i = 0; i < all * k; ++i) {
    manyIds[i] = static_cast<int32_t>(i % 5 == 0 ? 3 : i * 7 % (placed - 1));
  }
  for (bool countOwn : {false, true}) {
    write(kernels::Localize{countOwn}, 1,
          {in(manyIds), all, k, out(local), in(begins), in(places), in(shares), in(totals), out(taken), update(own),
           placed, replicas, replicas / 2, one});
  }
  Guarded<int32_t> someIds(manyIds.begin(), manyIds.begin() + ranks * tokens * k), sendRows(tokens * ranks),
      sendCounts(ranks), came(ranks * tokens * k), backRows(tokens * k * ranks), backCounts(ranks), back(tokens * k);
  write(kernels::Dispatch{}, 1, {in(someIds), tokens,        k,
                                 ranks,       out(sendRows), out(sendCounts),
                                 out(came),   out(backRows), out(backCounts),
                                 out(back),   ranks,         k * ranks,
                                 in(begins),  in(places),    in(shares),
                                 in(totals),  out(taken),    update(own),
                                 placed,      replicas,      replicas / 2,
                                 one});
  Guarded<char> from(5 * 32, 'f'), to(6 * 32, 't');
  Guarded<int32_t> list{4, -1, 0, 2, -1, 1};
  write(kernels::CopyListedRows{}, 6, {in(from), in(list), update(to), int64_t(32)});
  write(kernels::CopyListedRows{true}, 6, {in(from), in(list), update(to), int64_t(32)});
}

TEST_P(GpuKernelCases, Weights) {
  const int64_t rows = 2, n = 150, stride = 160;
  Guarded<char> narrow(rows * 64, 'n'), wide(rows * 96, 'w'), part(rows * 16);
  write(kernels::CopyRows{}, rows, {in(narrow), update(wide), int64_t(64), int64_t(96)});
  write(kernels::CopyPart{}, rows,
        {in(narrow), out(part), int64_t(16), int64_t(64), int64_t(16), int64_t(2), int64_t(3)});
  Tensor xs = random(bf16, rows * n), by = random(f32, n), over = random(f32, n), ys = random(bf16, rows * stride);
  write(kernels::ScaleRows{bf16, f32, f32, bf16, true}, rows, {in(xs), in(by), in(over), update(ys), n, n, stride});
  write(kernels::ScaleRows{bf16, f32, Type(), bf16, false}, rows, {in(xs), in(by), update(ys), n, rows, stride});
  write(kernels::SumRows{{bf16, bf16}, bf16}, rows, {in(xs), in(xs), update(ys), n, stride});
  write(kernels::FloorRows{bf16, bf16}, rows, {in(xs), update(ys), n, stride, 0.5f});
  const int64_t m = 5, k = 7;
  Tensor left = random(f32, m * k), right = random(bf16, k * n), result(f32, m * n);
  write(kernels::Product{f32, bf16, f32}, 2, {in(left), in(right), out(result), m, k, n, n});
}

INSTANTIATE_TEST_SUITE_P(Targets, GpuKernelCases, testing::Range(size_t(0), allTargets().size()));

} // namespace

int main(int argc, char **argv) {
  testing::InitGoogleTest(&argc, argv);
  StringRef option = argc == 2 ? argv[1] : "";
  if (!option.consume_front("--cases=") || option.empty()) {
    llvm::errs() << "usage: gpu-kernel-cases --cases=FOLDER\n";
    return 2;
  }
  folder = option.str();
  if (std::error_code error = llvm::sys::fs::create_directories(folder)) {
    llvm::errs() << "gpu-kernel-cases: " << folder << ": " << error.message() << "\n";
    return 1;
  }
  return RUN_ALL_TESTS();
}
