// Loading: damaged, foreign and missing files, every byte flipped in turn, and every check of the tables.
#include "test/runtime/core/TestPackage.h"

#include "runtime/format/Checksum.h"

#include <filesystem>
#include <fstream>
#include <functional>
#include <gtest/gtest.h>

using namespace moert;
using namespace moert::test;
using namespace moert::format;

namespace {

class LoadTest : public testing::Test {
protected:
  void expectRefused(moert_code code, const std::string &part) {
    Loaded loaded;
    EXPECT_FALSE(loaded.load(toy.package())) << "expected: " << part;
    EXPECT_EQ(loaded.code, code) << loaded.message;
    EXPECT_NE(loaded.message.find(part), std::string::npos) << loaded.message;
    EXPECT_EQ(loaded.program, nullptr);
  }
  /// Writes the changed program and expects it to be refused as corrupt.
  void refuses(const std::string &part, const std::function<void(ProgramSpec &, VariantSpec &)> &change,
               moert_code code = MOERT_CORRUPT) {
    ProgramSpec before = toy.program;
    change(toy.program, toy.variant());
    toy.write();
    expectRefused(code, part);
    toy.program = before;
  }
  /// Changes operand `o` of command `c`.
  void refusesOperand(const std::string &part, uint32_t c, uint32_t o, const Operand &operand,
                      moert_code code = MOERT_CORRUPT) {
    refuses(
        part, [&](ProgramSpec &, VariantSpec &v) { v.operands[v.commands[c].first_operand() + o] = operand; }, code);
  }

  Toy toy;
};

/// The first commands of the toy, see Toy::Toy.
enum : uint32_t { kEmbedCommand, kAccumulateCommand, kScaleCommand, kLogitsCommand };
enum : uint32_t { kClearCommand = 8, kFetchCommand, kFoldCommand, kStoreCommand };

TEST_F(LoadTest, MissingFiles) {
  expectRefused(MOERT_NOT_FOUND, "program.moep: cannot open: No such file or directory: is this a package that 'moec "
                                 "compile' wrote?");
  toy.write();
  std::filesystem::remove(toy.package() + "/tokenizer.json");
  expectRefused(MOERT_NOT_FOUND, "tokenizer.json: cannot open");
  toy.write();
  std::filesystem::remove(toy.package() + "/kernels-x86-64.so");
  expectRefused(MOERT_NOT_FOUND, "kernels-x86-64.so: cannot open");
  std::filesystem::create_directory(toy.package() + "/kernels-x86-64.so");
  expectRefused(MOERT_IO, "not a regular file");
}

TEST_F(LoadTest, EveryFlippedByteIsFound) {
  toy.write();
  for (const char *name : {"program.moep", "kernels-x86-64.so", "tokenizer.json"}) {
    const std::string path = toy.package() + "/" + name, intact = readFile(path);
    ASSERT_FALSE(intact.empty());
    // In place: a rewritten file is flushed to the disk on some file systems, ten thousand times.
    std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
    auto put = [&](size_t at, char byte) {
      file.seekp(std::streamoff(at));
      file.put(byte);
      file.flush();
    };
    for (size_t i = 0; i < intact.size(); ++i) {
      put(i, char(intact[i] ^ (1 << (i % 8))));
      Loaded loaded;
      ASSERT_FALSE(loaded.load(toy.package())) << name << " byte " << i;
      ASSERT_EQ(loaded.code, MOERT_CORRUPT) << name << " byte " << i << ": " << loaded.message;
      ASSERT_NE(loaded.message.find(name), std::string::npos) << loaded.message;
      put(i, intact[i]);
    }
  }
  Loaded loaded;
  EXPECT_TRUE(loaded.load(toy.package())) << loaded.message;
}

TEST_F(LoadTest, EveryTruncationIsFound) {
  toy.write();
  const std::string intact = readFile(toy.programPath());
  for (size_t size = 0; size < intact.size(); size += size < 64 || size + 64 > intact.size() ? 1 : 37) {
    test::writeFile(toy.programPath(), intact.substr(0, size));
    Loaded loaded;
    ASSERT_FALSE(loaded.load(toy.package())) << size;
    ASSERT_EQ(loaded.code, MOERT_CORRUPT) << size << ": " << loaded.message;
  }
  test::writeFile(toy.programPath(), intact + "x");
  expectRefused(MOERT_CORRUPT, "do not end with a seal");
}

TEST_F(LoadTest, OtherVersions) {
  refuses(
      "has format version 2.7, this runtime reads 1.x: run it with a newer runtime (it was written by test 1.0)",
      [](ProgramSpec &p, VariantSpec &) { p.major = 2, p.minor = 7; }, MOERT_UNSUPPORTED);
  refuses(
      "has format version 0.0, this runtime reads 1.x: compile the package again",
      [](ProgramSpec &p, VariantSpec &) { p.major = 0; }, MOERT_UNSUPPORTED);
  toy.program.minor = 9;
  toy.write();
  Loaded loaded;
  EXPECT_TRUE(loaded.load(toy.package())) << loaded.message;
}

/// A file that is sealed but no FlatBuffer of ours.
TEST_F(LoadTest, SealedNonsense) {
  for (std::string nonsense : {std::string(), std::string("1234"), std::string(100, '\0'), std::string(100, '\xff'),
                               std::string("\x10\0\0\0MOEP", 8) + std::string(64, '\x7f')}) {
    test::writeFile(toy.programPath(), nonsense + sealProgram(nonsense.data(), nonsense.size()));
    expectRefused(MOERT_CORRUPT, "program.moep: is n");
  }
}

TEST_F(LoadTest, ProgramTables) {
  refuses("vocabulary 0, largest step 16", [](auto &p, auto &) { p.vocab = 0; });
  refuses("largest step -1", [](auto &p, auto &) { p.maxTokens = -1; });
  refuses("largest step 4294967296", [](auto &p, auto &) { p.maxTokens = int64_t(1) << 32; });
  refuses("vocabulary 4294967296", [](auto &p, auto &) { p.vocab = int64_t(1) << 32; });
  refuses("context -1", [](auto &p, auto &) { p.maxContext = -1; });
  refuses("checkpoint file 0 '../model.safetensors' must be a path inside",
          [](auto &p, auto &) { p.files[0].name = "../model.safetensors"; });
  refuses("checkpoint file 0 '/etc/passwd'", [](auto &p, auto &) { p.files[0].name = "/etc/passwd"; });
  refuses("a SHA-256 must have 32 bytes", [](auto &p, auto &) { p.files[0].headerSha256 = "short"; });
  refuses("a SHA-256 must have 32 bytes", [](auto &p, auto &) { p.files[0].sha256 = "short"; });
  refuses("checkpoint file 'model.safetensors' has a header of 1000000 bytes in ",
          [](auto &p, auto &) { p.files[0].headerBytes = 1000000; });
  refuses("package file 0 'a/../b'", [](auto &p, auto &) { p.packageFiles = {{"a/../b", ""}}; });
  refuses("package file 0 'tokenizer.json' must be a path inside the package with a SHA-256 of 32 bytes",
          [](auto &p, auto &) { p.packageDigest = "short"; });
  refuses("tensor 0 is in file 1 of 1", [](auto &p, auto &) { p.tensors[0].mutate_file(1); });
  refuses("tensor 0 has name index 4096", [](auto &p, auto &) { p.tensors[0].mutate_name(4096); });
  refuses("dtype 77", [](auto &p, auto &) { p.tensors[0].mutate_dtype(DType(77)); });
  refuses("rank 4", [](auto &p, auto &) { p.tensors[0].mutate_rank(4); });
  refuses("tensor 1 'experts.0' is bytes", [](auto &p, auto &) { p.tensors[1].mutate_bytes(1000); });
  refuses("is bytes 18446744073709551615 .. + 32", [](auto &p, auto &) { p.tensors[0].mutate_offset(UINT64_MAX); });
  refuses("tensor 5 'head.folded' has 18446744073709551615 bytes",
          [](auto &p, auto &) { p.tensors[kHead].mutate_bytes(UINT64_MAX); });
  refuses("weight table 0 has entries 1 .. + 2 of 2", [](auto &p, auto &) { p.tables[0].mutate_first(1); });
  refuses("weight table 0 has entries 99 .. + 0 of 2", [](auto &p, auto &) { p.tables[0] = WeightTable(0, 99, 0); });
  refuses("weight table 0 has entries 0 .. + 4294967295",
          [](auto &p, auto &) { p.tables[0].mutate_count(UINT32_MAX); });
  refuses("weight table entry 1 is offset 0 of tensor 6 of 6",
          [](auto &p, auto &) { p.tableEntries[1].mutate_tensor(6); });
  refuses("weight table entry 0 is offset 5", [](auto &p, auto &) { p.tableEntries[0].mutate_offset(5); });
}

TEST_F(LoadTest, VariantTables) {
  refuses("kernels '../evil.so' must be a file name", [](auto &, auto &v) { v.blob = "../evil.so"; });
  refuses("kernels 'a/b.so' must be a file name", [](auto &, auto &v) { v.blob = "a/b.so"; });
  refuses("kernels '..' must be a file name", [](auto &, auto &v) { v.blob = ".."; });
  refuses("the kernels' SHA-256 has 5 bytes", [](auto &, auto &v) { v.blobSha256 = "short"; });
  refuses("0 streams, 0 events", [](auto &, auto &v) { v.streams = 0; });
  refuses("1 streams, 1048577 events", [](auto &, auto &v) { v.events = (1u << 20) + 1; });
  refuses("0 events and 0 ranks", [](auto &, auto &v) { v.ranks = 0; });
  refuses("kernel 'absent' is missing", [](auto &, auto &v) { v.kernels[0] = "absent"; });
  refuses("buffer 0 has kind 9", [](auto &, auto &v) { v.buffers[0].mutate_kind(BufferKind(9)); });
  refuses("buffer 0 has name index 999", [](auto &, auto &v) { v.buffers[0].mutate_name(999); });
  refuses("buffer 0 has alignment 48", [](auto &, auto &v) { v.buffers[0].mutate_alignment(48); });
  refuses("buffer 0 has alignment 0", [](auto &, auto &v) { v.buffers[0].mutate_alignment(0); });
  refuses("buffer 0 has alignment 4194304", [](auto &, auto &v) { v.buffers[0].mutate_alignment(4u << 20); });
  refuses("buffer 0 has size -1", [](auto &, auto &v) { v.buffers[0].mutable_size().mutate_fixed(-1); });
  refuses("buffer 0 has size 128 + 9223372036854775807*T",
          [](auto &, auto &v) { v.buffers[0].mutable_size().mutate_per_token(INT64_MAX); });
  refuses("buffer 6: output 'logits' has size 0 + 28*M, must be 32*M",
          [](auto &, auto &v) { v.buffers[kLogits].mutable_size().mutate_per_row(28); });
  refuses("output 'logits' has size 4 + 32*M",
          [](auto &, auto &v) { v.buffers[kLogits].mutable_size().mutate_fixed(4); });
  refuses("output 'logits' has size 0 + 4*T + 32*M",
          [](auto &, auto &v) { v.buffers[kLogits].mutable_size().mutate_per_token(4); });
  refuses("output 'logits' has size 0 + 32*M + 4*B",
          [](auto &, auto &v) { v.buffers[kLogits].mutable_size().mutate_per_sequence(4); });
  refuses("buffer 6: output 'tokens' is neither 'logits' nor a result of an entry",
          [](auto &, auto &v) { v.buffers[kLogits].mutate_name(v.buffers[kTokens].name()); });
  refuses("buffer 1: input 'tokens' has size 0 + 3*T, which does not hold 0 + 4*T",
          [](auto &, auto &v) { v.buffers[kTokens].mutable_size().mutate_per_token(3); });
  refuses("buffer 4: input 'runs'", [](auto &, auto &v) { v.buffers[kRuns].mutable_size().mutate_fixed(0); });
  refuses("buffer 4: input 'runs'", [](auto &, auto &v) { v.buffers[kRuns].mutable_size().mutate_per_sequence(3); });
  refuses("buffer 5: input 'rows'", [](auto &, auto &v) { v.buffers[kRows].mutable_size().mutate_per_row(3); });
  refuses("buffer 5: input 'arena' is neither tokens, seq, pos, runs or rows nor an argument of an entry",
          [](auto &, auto &v) { v.buffers[kRows].mutate_name(v.buffers[kArena].name()); });
  refuses("buffer 3 has the name 'seq', which another buffer has",
          [](auto &, auto &v) { v.buffers[kPos].mutate_name(v.buffers[kSeq].name()); });
  refuses("constant bytes 60 + 8 are not inside the 64 bytes of constants", [](auto &p, auto &v) {
    p.constants.assign(64, 'c');
    v.buffers.push_back(Buffer(BufferKind::Constant, 0, 4, 60, extent(8)));
  });
  refuses("constant bytes 128 + 8 are not inside", [](auto &p, auto &v) {
    p.constants.assign(64, 'c');
    v.buffers.push_back(Buffer(BufferKind::Constant, 0, 4, 128, extent(8)));
  });
  refuses("constant bytes 0 + 8 + 4*T are not inside", [](auto &p, auto &v) {
    p.constants.assign(64, 'c');
    v.buffers.push_back(Buffer(BufferKind::Constant, 0, 4, 0, extent(8, 4)));
  });
  refuses("constant offset 2 is not aligned to 4", [](auto &p, auto &v) {
    p.constants.assign(64, 'c');
    v.buffers.push_back(Buffer(BufferKind::Constant, 0, 4, 2, extent(8)));
  });
  refuses("constant offset 0 is not aligned to 128 (at most 64)", [](auto &p, auto &v) {
    p.constants.assign(64, 'c');
    v.buffers.push_back(Buffer(BufferKind::Constant, 0, 128, 0, extent(8)));
  });
}

TEST_F(LoadTest, KernelTables) {
  refuses("kernel 1 'accumulate' has 32 threads and 0 bytes of shared memory: on a CPU both must be 0",
          [](auto &, auto &v) { v.kernels[1].threads = 32; });
  refuses("kernel 2 'scale' has 0 threads and 4 bytes of shared memory: on a CPU both must be 0",
          [](auto &, auto &v) { v.kernels[2].sharedBytes = 4; });
  auto forGpu = [](VariantSpec &v) {
    v.target = "cuda:sm_80";
    for (KernelSpec &kernel : v.kernels) {
      kernel.threads = 1024;
      kernel.sharedBytes = 227 << 10;
    }
  };
  for (const char *target : {"cuda", "cuda:", "cuda:sm_", "cuda:sm_8", "cuda:sm_08", "cuda:sm_1000", "cuda:sm_90x",
                             "cuda:sm_90aa", "cuda:80"}) {
    refuses(std::string("variant '") + target + "': target must be 'cuda:sm_' and a compute capability",
            [&](auto &, auto &v) { forGpu(v), v.target = target; });
  }
  refuses("names CPU feature 'avx2': a variant for GPUs has none",
          [&](auto &, auto &v) { forGpu(v), v.features = {"avx2"}; });
  refuses("kernel 0 'embed' has 0 threads per workgroup, must have 1 to 1024",
          [&](auto &, auto &v) { forGpu(v), v.kernels[0].threads = 0; });
  refuses("kernel 1 'accumulate' has 1025 threads per workgroup, must have 1 to 1024",
          [&](auto &, auto &v) { forGpu(v), v.kernels[1].threads = 1025; });
  refuses("kernel 1 'accumulate' has 232449 bytes of shared memory, must have at most 232448",
          [&](auto &, auto &v) { forGpu(v), v.kernels[1].sharedBytes = (227 << 10) + 1; });
  for (const char *target : {"cuda:sm_80", "cuda:sm_90a", "cuda:sm_100", "cuda:sm_103f"}) {
    forGpu(toy.variant());
    toy.variant().target = target;
    toy.write();
    Loaded loaded;
    EXPECT_TRUE(loaded.load(toy.package())) << loaded.message;
  }
}

TEST_F(LoadTest, Steps) {
  refuses("step 1 is for T in [3, 16], must start at 2", [](auto &, auto &v) { v.steps[1].mutate_min_tokens(3); });
  refuses("step 1 is for T in [2, 17]", [](auto &, auto &v) { v.steps[1].mutate_max_tokens(17); });
  refuses("step 1 is for T in [2, 1]", [](auto &, auto &v) { v.steps[1].mutate_max_tokens(1); });
  refuses("steps cover T up to 15, must cover 1 to 16", [](auto &, auto &v) { v.steps[1].mutate_max_tokens(15); });
  refuses("steps cover T up to 0", [](auto &, auto &v) { v.steps.clear(); });
  refuses("step 0 has commands 0 .. + 4294967295 of 12",
          [](auto &, auto &v) { v.steps[0].mutate_command_count(UINT32_MAX); });
  refuses("step 0 has commands 99 .. + 0 of 12", [](auto &, auto &v) {
    v.steps[0].mutate_first_command(99);
    v.steps[0].mutate_command_count(0);
  });
  refuses("steps and initializers name more than 16777216 commands and operands", [](auto &p, auto &v) {
    p.maxTokens = 17000;
    v.buffers[kArena].mutable_size().mutate_fixed(int64_t(1) << 20);
    const uint32_t wide = addCommand(p, v, CommandKind::Launch, "wide", 0, std::vector<Operand>(1000, constant(0)));
    v.steps.clear();
    for (int64_t t = 1; t <= p.maxTokens; ++t) {
      v.steps.push_back(StepVariant(t, t, wide, 1));
    }
  });
}

TEST_F(LoadTest, Commands) {
  auto withCommand = [&](const std::string &part, auto change, moert_code code = MOERT_CORRUPT) {
    refuses(part, [&](auto &, auto &v) { change(v.commands[kEmbedCommand]); }, code);
  };
  withCommand("has kind 77", [](Command &c) { c.mutate_kind(CommandKind(77)); });
  withCommand("command 0 '-' has name index 999", [](Command &c) { c.mutate_name(999); });
  withCommand("command 0 'embed' runs on stream 1 of 1", [](Command &c) { c.mutate_stream(1); });
  withCommand("launches kernel 8 of 8", [](Command &c) { c.mutate_target(8); });
  withCommand("has operands 4294967295 .. + 4", [](Command &c) { c.mutate_first_operand(UINT32_MAX); });
  withCommand("has operands 0 .. + 4294967295", [](Command &c) { c.mutate_operand_count(UINT32_MAX); });
  withCommand("has operands 0 .. + 1000 of", [](Command &c) { c.mutate_operand_count(1000); });
  refuses("(at most 1024)", [](auto &p, auto &v) {
    v.steps[1].mutate_first_command(
        addCommand(p, v, CommandKind::Launch, "wide", 0, std::vector<Operand>(1025, constant(0))));
    v.steps[1].mutate_command_count(1);
  });
  withCommand("a divisor of at least 1", [](Command &c) { c.mutable_grid().mutate_divisor(0); });
  withCommand("has grid -1 *", [](Command &c) { c.mutable_grid().mutate_factor(-1); });
  withCommand("min(-1", [](Command &c) { c.mutable_grid().mutate_cap(-1); });
  withCommand("ceil((-1 + 1*T)", [](Command &c) { c.mutable_grid().mutable_units().mutate_fixed(-1); });
  withCommand("1 + 9223372036854775807*T", [](Command &c) {
    c.mutable_grid().mutable_units().mutate_fixed(1);
    c.mutable_grid().mutable_units().mutate_per_token(INT64_MAX);
  });
  withCommand("names event 0 of 0", [](Command &c) { c.mutate_kind(CommandKind::Record); });
  withCommand(
      "cannot run on the cpu backend: no host function is registered",
      [](Command &c) {
        c.mutate_kind(CommandKind::HostCall);
        c.mutate_target(0);
      },
      MOERT_UNSUPPORTED);
  withCommand("calls name 9999", [](Command &c) {
    c.mutate_kind(CommandKind::HostCall);
    c.mutate_target(9999);
  });
  withCommand("has 4 operands, must have 1", [](Command &c) { c.mutate_kind(CommandKind::Fill); });
  withCommand("has 4 operands, must have 2", [](Command &c) { c.mutate_kind(CommandKind::Copy); });
  withCommand("operand 0 must be a slice or the initializer's result", [](Command &c) {
    c.mutate_kind(CommandKind::Copy);
    c.mutate_operand_count(2);
  });
  refuses("fills with 256, which is not a byte", [](auto &, auto &v) { v.commands[kClearCommand].mutate_value(256); });
  refusesOperand("'clear': operand 0 must be a slice or the initializer's result", kClearCommand, 0,
                 Operand(OperandKind::Constant, Access::Write, 0, 0, test::extent(4), 0));
  refusesOperand("'fetch': operand 1 must be a slice or weight span that is read", kFetchCommand, 1,
                 Operand(OperandKind::Constant, Access::Read, 0, 0, test::extent(4 * kVocab), 0));
  refusesOperand("'fetch': operand 1 must be a slice or weight span that is read", kFetchCommand, 1,
                 slice(0, Access::ReadWrite, test::extent(4 * kVocab)));
  refuses("copies 32 bytes to 64 bytes", [](auto &p, auto &v) {
    addCommand(p, v, CommandKind::Collective, "gather", uint32_t(CollectiveKind::AllGather),
               {slice(kArena, Access::Write, test::extent(64), 64), slice(kArena, Access::Read, test::extent(32))});
    v.initializers.clear();
    for (uint32_t c : {3u, 7u}) {
      v.operands[v.commands[c].first_operand() + 2] = span(kRawHead);
    }
    v.commands.erase(v.commands.begin() + 8, v.commands.begin() + 12);
    v.steps[1].mutate_command_count(5);
  });
  refuses("copies 28 bytes to 32 bytes", [](auto &, auto &v) {
    v.operands[v.commands[kFetchCommand].first_operand() + 1].mutable_extent().mutate_fixed(28);
  });
}

TEST_F(LoadTest, Operands) {
  const Extent perToken = test::extent(0, 4);
  refusesOperand("command 0 'embed': operand 0 is a slice of buffer 8 of 8", kEmbedCommand, 0,
                 slice(8, Access::Read, perToken));
  refusesOperand("operand 0 is a slice with access none", kEmbedCommand, 0, slice(kTokens, Access::None, perToken));
  refusesOperand("has access 9", kEmbedCommand, 0, slice(kTokens, Access(9), perToken));
  refusesOperand("writes buffer 'tokens', which is read-only", kEmbedCommand, 0,
                 slice(kTokens, Access::ReadWrite, perToken));
  refusesOperand("is bytes 4 .. + 0 + 4*T of buffer 'tokens', which has 0 + 4*T bytes: not inside it for every T in "
                 "[2, 16]",
                 4, 0, slice(kTokens, Access::Read, perToken, 4));
  refusesOperand("is bytes 1 .. + 128 of buffer 'arena'", kEmbedCommand, 2,
                 slice(kArena, Access::Write, test::extent(128), 1));
  refusesOperand("is bytes 18446744073709551615 .. +", kEmbedCommand, 2,
                 slice(kArena, Access::Write, perToken, UINT64_MAX));
  refusesOperand("has extent 0 + -4*T", kEmbedCommand, 2, slice(kArena, Access::Write, test::extent(0, -4)));
  refusesOperand("0 + 9223372036854775807*T", 4, 2, slice(kArena, Access::Write, test::extent(0, INT64_MAX)));
  // Growing with the cache where the buffer does not, or only with B, or faster.
  refusesOperand("of buffer 'arena'", kEmbedCommand, 2, slice(kArena, Access::Write, test::extent(0, 0, 0, 0, 1)));
  refusesOperand("of buffer 'kv'", kAccumulateCommand, 3,
                 slice(kState, Access::ReadWrite, test::extent(0, 0, 0, 0, 5)));
  refusesOperand("of buffer 'kv'", kAccumulateCommand, 3,
                 slice(kState, Access::ReadWrite, test::extent(1, 0, 0, 0, 4)));
  refusesOperand("of buffer 'kv'", kAccumulateCommand, 3, slice(kState, Access::ReadWrite, test::extent(5)));
  refusesOperand("of buffer 'runs'", kAccumulateCommand, 7, slice(kRuns, Access::Read, test::extent(5, 0, 0, 4)));
  // The caller's logits have M rows, not T.
  refusesOperand("of buffer 'logits'", 7, 3, slice(kLogits, Access::Write, test::extent(0, 4 * kVocab)));
  refusesOperand("of buffer 'logits'", 7, 3, slice(kLogits, Access::Write, test::extent(4)));
}

TEST_F(LoadTest, WeightOperands) {
  refusesOperand("reads tensor 6 of 6", kEmbedCommand, 1, span(6));
  refusesOperand("is bytes 4 .. + 32 of tensor 'embed', which has 32 bytes", kEmbedCommand, 1, span(kEmbed, 4, 32));
  refusesOperand("is bytes 33 .. + 0 of tensor 'embed'", kEmbedCommand, 1, span(kEmbed, 33));
  refusesOperand("is bytes 0 .. + -4", kEmbedCommand, 1, span(kEmbed, 0, -4));
  refuses("is bytes 0 .. + -4", [](auto &p, auto &v) { // even of a tensor that has as many
    p.files[0].size = UINT64_MAX;
    p.tensors[kEmbed].mutate_offset(0);
    p.tensors[kEmbed].mutate_bytes(UINT64_MAX);
    v.operands[v.commands[kEmbedCommand].first_operand() + 1] = span(kEmbed, 0, -4);
  });
  refuses("is bytes 0 .. + 0 + 4*T of tensor 'embed'", [](auto &, auto &v) {
    v.operands[v.commands[kEmbedCommand].first_operand() + 1].mutable_extent().mutate_per_token(4);
  });
  refusesOperand("writes tensor 0: only an initializer writes one", kEmbedCommand, 1,
                 span(kEmbed, 0, 0, Access::Write));
  refusesOperand("is weight table 1 of 1", kScaleCommand, 0, table(1));
  refuses("writes weight table 0",
          [](auto &, auto &v) { v.operands[v.commands[kScaleCommand].first_operand()].mutate_access(Access::Write); });
  refusesOperand("is size 99", kEmbedCommand, 3, size(Dim(99)));
  refuses("has kind 99", [](auto &, auto &v) { v.operands[0].mutate_kind(OperandKind(99)); });
}

/// Maps of `embed`: one that only the CPU's ledger refuses, and others of which something is wrong.
TEST_F(LoadTest, TensorMaps) {
  const format::TensorMap good(false, kEmbed, 8, 0, 0, 2, 8);
  auto with = [&](const std::string &part, const format::TensorMap &map, moert_code code = MOERT_CORRUPT) {
    refuses(
        part,
        [&](auto &p, auto &v) {
          p.tensors[kEmbed].mutate_dtype(DType::BF16); // of the same bytes
          p.tensors[kEmbed].mutate_d0(2 * p.tensors[kEmbed].d0());
          v.tensorMaps = {map};
          v.operands[v.commands[kEmbedCommand].first_operand() + 1] =
              Operand(OperandKind::TensorMap, Access::Read, 0, 0, extent(0), 0);
        },
        code);
  };
  with("a tensor map is made by a GPU driver", good, MOERT_UNSUPPORTED);
  refusesOperand("is tensor map 0 of 0", kEmbedCommand, 1,
                 Operand(OperandKind::TensorMap, Access::Read, 0, 0, extent(0), 0));
  with("is tensor map 0 of tensor 77 of", {false, 77, 8, 0, 0, 2, 8});
  with("is weight table 77 of 1", {true, 77, 8, 0, 0, 2, 8});
  with("is tensor map 0 of 0 rows of 8 elements by 8 rows", {false, kEmbed, 8, 0, 0, 0, 8});
  with("is tensor map 0 of 2 rows of 7 elements by 8 rows", {false, kEmbed, 8, 0, 0, 2, 7});
  with("by 257 rows: rows are multiples of 16 bytes, boxes of 1 to 256", {false, kEmbed, 257, 0, 0, 2, 8});
  with("is tensor map 0 of 32 bytes at 8 of tensor 'embed'", {false, kEmbed, 8, 8, 0, 2, 8});
  with("is tensor map 0 of 32000000 bytes at 0 of tensor 'embed'", {false, kEmbed, 8, 0, 0, 2000000, 8});
}

TEST_F(LoadTest, InitializerTables) {
  auto with = [&](const std::string &part, auto change) {
    refuses(part, [&](auto &, auto &v) { change(v.initializers[0]); });
  };
  with("initializer 0 writes tensor 0 of 6, which must be one without a file", [](auto &i) { i.result = kEmbed; });
  with("initializer 0 writes tensor 77", [](auto &i) { i.result = 77; });
  with("has a key of 3 characters", [](auto &i) { i.key = "abc"; });
  with("64 lower-case hexadecimal digits", [](auto &i) { i.key = std::string(63, 'a') + "/"; });
  with("has commands 8 .. + 4294967295", [](auto &i) { i.commandCount = UINT32_MAX; });
  with("has commands 99 .. + 0 of 12", [](auto &i) { i.firstCommand = 99, i.commandCount = 0; });
  with("must be scratch of a fixed size", [](auto &i) { i.scratch[0].mutable_size().mutate_per_token(1); });
  with("must be scratch of a fixed size", [](auto &i) { i.scratch[0].mutate_kind(BufferKind::State); });
  with("is a slice of buffer 0 of 0", [](auto &i) { i.scratch.clear(); });
  refuses("initializer 1 writes tensor 5, which initializer 0 writes already",
          [](auto &, auto &v) { v.initializers.push_back(v.initializers[0]); });
  refuses("reads tensor 5 'head.folded', which no earlier initializer writes",
          [](auto &, auto &v) { v.initializers.clear(); });
  refuses("reads tensor 5 'head.folded', which no earlier initializer writes", [](auto &p, auto &v) {
    p.tableEntries[1] = TableEntry(kHead, 0);
    v.initializers.clear();
    v.operands[v.commands[kLogitsCommand].first_operand() + 2] = span(kRawHead);
    v.operands[v.commands[7].first_operand() + 2] = span(kRawHead);
  });
  refusesOperand("is a size: an initializer runs once, outside any step, and knows only ranks and rank", kFoldCommand,
                 2, size(Dim::T));
  refuses("+ 1*T) / 1)): needs factor, cap and units of at least 0 (fixed)",
          [](auto &, auto &v) { v.commands[kFoldCommand].mutable_grid().mutable_units().mutate_per_token(1); });
  refusesOperand("writes tensor 0: only an initializer writes one, its result", kFoldCommand, 1,
                 span(kEmbed, 0, 0, Access::Write));
  refusesOperand("must be fixed and not negative", kFoldCommand, 0, slice(0, Access::ReadWrite, test::extent(0, 4)));
  refusesOperand("must say how many bytes it is", kClearCommand, 0, span(kHead, 0, 0, Access::Write));
  refuses("an initializer launches, copies and fills only",
          [](auto &, auto &v) { v.commands[kFoldCommand].mutate_kind(CommandKind::GroupBegin); });
}

class HazardTest : public LoadTest {
protected:
  /// A step of fills and copies over the arena, on as many streams as wanted.
  void SetUp() override {
    toy.variant().streams = 3;
    toy.variant().events = 4;
    first = uint32_t(toy.variant().commands.size());
  }
  void fill(const char *name, uint8_t stream, uint64_t offset, int64_t bytes) {
    addCommand(toy.program, toy.variant(), CommandKind::Fill, name, 0,
               {slice(kArena, Access::Write, test::extent(bytes), offset)}, Grid(test::extent(1), 1, 0, 1), 0, stream);
  }
  void copy(const char *name, uint8_t stream, uint64_t to, uint64_t from, int64_t bytes) {
    addCommand(
        toy.program, toy.variant(), CommandKind::Copy, name, 0,
        {slice(kArena, Access::Write, test::extent(bytes), to), slice(kArena, Access::Read, test::extent(bytes), from)},
        Grid(test::extent(1), 1, 0, 1), 0, stream);
  }
  void event(CommandKind kind, uint8_t stream, uint32_t event) {
    addCommand(toy.program, toy.variant(), kind, kind == CommandKind::Record ? "record" : "wait", event, {},
               Grid(test::extent(1), 1, 0, 1), 0, stream);
  }
  void write() {
    uint32_t count = uint32_t(toy.variant().commands.size()) - first;
    toy.variant().steps = {StepVariant(1, kMaxTokens, first, count)};
    toy.write();
  }
  void expectAccepted() {
    write();
    Loaded loaded;
    EXPECT_TRUE(loaded.load(toy.package())) << loaded.message;
  }
  void expectConflict(const std::string &part) {
    write();
    expectRefused(MOERT_CORRUPT, part);
  }
  uint32_t first = 0;
};

TEST_F(HazardTest, WriteAndReadOnTwoStreams) {
  fill("writer", 0, 0, 64);
  copy("reader", 1, 64, 32, 16);
  expectConflict("command 12 'writer' and command 13 'reader' may run at the same time and conflict in buffer 0 (bytes "
                 "0 to 64 and 32 to 48): order them by a stream or an event");
}

TEST_F(HazardTest, TwoWritesOnTwoStreams) {
  fill("one", 0, 0, 64);
  fill("two", 2, 63, 1);
  expectConflict("'one' and command 13 'two' may run at the same time");
}

TEST_F(HazardTest, OnlySlicesAreOfBuffers) {
  fill("writer", 0, 0, 64);
  addCommand(toy.program, toy.variant(), CommandKind::Launch, "reader", 0, {span(kEmbed, 0, 32)},
             Grid(test::extent(1), 1, 0, 1), 0, 1); // tensor 0, not the arena, which is buffer 0
  expectAccepted();
}

TEST_F(HazardTest, WhatIsTooLargeToCheck) {
  fill("one", 0, 0, 64);
  toy.variant().streams = 255;
  toy.variant().events = 1u << 20;
  expectConflict("a step of 1 commands on 255 streams with 1048576 events is too large to check");
  toy.variant().streams = 2;
  toy.variant().events = 0;
  for (int i = 0; i < 12; ++i) {
    addCommand(toy.program, toy.variant(), CommandKind::Launch, "wide", 0,
               std::vector<Operand>(1000, slice(kArena, Access::Read, test::extent(64))));
  }
  toy.variant().steps = {StepVariant(1, kMaxTokens, first + 1, 12)};
  toy.write();
  expectRefused(MOERT_CORRUPT, "touches the same bytes more than 67108864 times");
}

TEST_F(HazardTest, TouchingIsNoOverlap) {
  fill("one", 0, 0, 64);
  fill("two", 1, 64, 64);
  expectAccepted();
}

TEST_F(HazardTest, TwoReadsAreNoConflict) {
  copy("one", 0, 0, 64, 16);
  copy("two", 1, 16, 64, 16);
  expectAccepted();
}

TEST_F(HazardTest, OneStreamOrders) {
  fill("writer", 1, 0, 64);
  copy("reader", 1, 64, 32, 16);
  expectAccepted();
}

TEST_F(HazardTest, EventOrders) {
  fill("writer", 0, 0, 64);
  event(CommandKind::Record, 0, 2);
  event(CommandKind::Wait, 1, 2);
  copy("reader", 1, 64, 32, 16);
  expectAccepted();
}

TEST_F(HazardTest, EventOrdersTransitively) {
  fill("writer", 0, 0, 64);
  event(CommandKind::Record, 0, 0);
  event(CommandKind::Wait, 1, 0);
  event(CommandKind::Record, 1, 1);
  event(CommandKind::Wait, 2, 1);
  copy("reader", 2, 64, 32, 16);
  expectAccepted();
}

TEST_F(HazardTest, RecordBeforeTheWriterDoesNotOrderIt) {
  event(CommandKind::Record, 0, 2);
  fill("writer", 0, 0, 64);
  event(CommandKind::Wait, 1, 2);
  copy("reader", 1, 64, 32, 16);
  expectConflict("'writer' and command 15 'reader' may run at the same time");
}

TEST_F(HazardTest, WaitAfterTheReaderDoesNotOrderIt) {
  fill("writer", 0, 0, 64);
  event(CommandKind::Record, 0, 2);
  copy("reader", 1, 64, 32, 16);
  event(CommandKind::Wait, 1, 2);
  expectConflict("'writer' and command 14 'reader' may run at the same time");
}

TEST_F(HazardTest, ExtentsAreTakenAtTheLargestStep) {
  // 4*T bytes at T = 16 reach byte 64 of the arena.
  addCommand(toy.program, toy.variant(), CommandKind::Fill, "grows", 0,
             {slice(kArena, Access::Write, test::extent(0, 4))}, Grid(test::extent(1), 1, 0, 1), 0, 0);
  fill("fixed", 1, 60, 4);
  expectConflict("(bytes 0 to 64 and 60 to 64)");
}

TEST_F(HazardTest, WhatGrowsWithTheSessionReachesToTheEnd) {
  auto fillState = [&](const char *name, uint8_t stream, uint64_t offset, const Extent &bytes) {
    addCommand(toy.program, toy.variant(), CommandKind::Fill, name, 0, {slice(kState, Access::Write, bytes, offset)},
               Grid(test::extent(1), 1, 0, 1), 0, stream);
  };
  toy.variant().buffers[kState].mutable_size().mutate_fixed(1024);
  fillState("all", 0, 0, test::extent(0, 0, 0, 0, 4));
  fillState("end", 1, 1000, test::extent(8));
  expectConflict("'all' and command 13 'end'");
}

TEST_F(HazardTest, EventsAreRecordedOnceAndBeforeTheWait) {
  event(CommandKind::Wait, 1, 2);
  expectConflict("command 12 'wait' waits for event 2, which no earlier command records");
  toy.variant().commands.resize(first);
  event(CommandKind::Record, 0, 2);
  event(CommandKind::Record, 0, 2);
  expectConflict("command 13 'record' records event 2, which command 12 'record' records already");
}

TEST_F(HazardTest, OverlapWithinOneLaunch) {
  addCommand(toy.program, toy.variant(), CommandKind::Launch, "inplace", 4,
             {slice(kArena, Access::Write, test::extent(8)), slice(kArena, Access::Read, test::extent(8), 4)});
  expectConflict("command 12 'inplace': operands 0 and 1 overlap in buffer 0 (bytes 0 to 8 and 4 to 12)");
  toy.variant().commands.resize(first);
  addCommand(toy.program, toy.variant(), CommandKind::Launch, "inplace", 4,
             {slice(kArena, Access::ReadWrite, test::extent(8)), slice(kArena, Access::Read, test::extent(8), 8)});
  expectAccepted();
  toy.variant().commands.resize(first);
  copy("self", 0, 0, 4, 8);
  expectConflict("command 12 'self': operands 0 and 1 overlap");
}

} // namespace
