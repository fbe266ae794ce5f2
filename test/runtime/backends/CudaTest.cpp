// What only the CUDA backend has: devices and their errors, weights that are moved, graphs, faults. Over the emulator.
#include "runtime/backends/cuda/Driver.h"
#include "runtime/core/Backend.h"
#include "runtime/core/Program.h"
#include "test/runtime/backends/GpuToy.h"

#include <cstdlib>
#include <dirent.h>
#include <dlfcn.h>
#include <functional>
#include <gtest/gtest.h>

using namespace moert;
using namespace moert::test;
using format::Access;
using format::CommandKind;
using format::StepVariant;

namespace {

/// Whether this machine has NVIDIA's driver.
bool hasDriver = false;

class CudaTest : public testing::Test {
protected:
  void SetUp() override { makeForGpu(toy); }
  static moert_session_options options() {
    moert_session_options options = defaultOptions();
    options.device = "emulator";
    return options;
  }
  void load() {
    toy.write();
    ASSERT_TRUE(loaded.load(toy.package())) << loaded.message;
  }
  void open() {
    load();
    ASSERT_TRUE(loaded.open(options())) << loaded.message;
  }
  void expectMessage(moert_code code, const std::string &part) {
    EXPECT_EQ(loaded.code, code) << loaded.message;
    EXPECT_NE(loaded.message.find(part), std::string::npos) << loaded.message;
  }
  /// A session of the changed toy that must be refused.
  void refuses(moert_code code, const std::string &part, const std::function<void(VariantSpec &)> &change) {
    ProgramSpec before = toy.program;
    change(toy.variant());
    load();
    EXPECT_FALSE(loaded.open(options())) << "expected: " << part;
    expectMessage(code, part);
    toy.program = before;
  }
  /// Makes the step one launch.
  void stepOf(const char *name, uint32_t kernel, const std::vector<format::Operand> &operands) {
    const uint32_t command = addCommand(toy.program, toy.variant(), CommandKind::Launch, name, kernel, operands);
    toy.variant().steps = {StepVariant(1, kMaxTokens, command, 1)};
  }
  bool reportSays(const std::string &part) { return loaded.report().find(part) != std::string::npos; }
  /// Of the emulator in this process: tests before this one may have had some.
  uint64_t findings() {
    const std::string key = "\"emulator_findings\":", report = loaded.report();
    const size_t at = report.find(key);
    EXPECT_NE(at, std::string::npos);
    return std::stoull(report.substr(at + key.size()));
  }
  std::string cacheFile() {
    std::string found;
    DIR *folder = opendir(toy.cache().c_str());
    while (dirent *entry = folder ? readdir(folder) : nullptr) {
      found = entry->d_name[0] == '.' ? found : toy.cache() + "/" + entry->d_name;
    }
    closedir(folder);
    return found;
  }

  Toy toy;
  Loaded loaded;
  std::vector<float> logits;
};

/// First, before the emulator is loaded. Without an option a package for GPUs asks for one, and says what to do where
/// there is none.
TEST_F(CudaTest, WithoutADriver) {
  if (hasDriver || dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD)) {
    GTEST_SKIP() << "this machine has a driver, or the emulator is loaded already";
  }
  load();
  for (const char *device : {static_cast<const char *>(nullptr), "cuda", "cuda:3"}) {
    moert_session_options asked = options();
    asked.device = device;
    EXPECT_FALSE(loaded.open(asked));
    expectMessage(MOERT_NOT_FOUND, "no CUDA driver was found: libcuda.so.1: ");
    expectMessage(MOERT_NOT_FOUND, "install NVIDIA's driver, or run without a GPU with --device emulator");
  }

  // The emulator is found by its own name only.
  ASSERT_TRUE(loaded.open(options())) << loaded.message;
  moert_session_options asked = options();
  asked.device = "cuda";
  EXPECT_FALSE(loaded.open(asked));
  expectMessage(MOERT_UNSUPPORTED,
                "the libcuda.so.1 that the system finds is the emulator, not a driver: ask for it by "
                "name, with --device emulator");
}

TEST_F(CudaTest, DevicesAreChosenByName) {
  open();
  EXPECT_TRUE(reportSays("\"backend\":\"emulator\",\"device\":\"the emulator '")) << loaded.report();
  EXPECT_TRUE(
      reportSays("{\"target\":\"cuda:sm_80\",\"chosen\":true,\"reason\":\"first variant that this GPU runs\"}"));
  const char *kind = nullptr, *name = nullptr;
  ASSERT_EQ(moert_session_get_device(loaded.session, &kind, &name), nullptr);
  EXPECT_STREQ(kind, "emulator");
  EXPECT_NE(std::string(name).find("emulator"), std::string::npos) << name;
  moert_status *status = moert_session_get_device(loaded.session, &kind, nullptr);
  EXPECT_STREQ(moert_status_message(status), "moert_session_get_device: name is NULL");
  moert_status_free(status);

  moert_session_options asked = options();
  for (const char *device : {"gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:1000", "Emulator", "emulator:1", ""}) {
    asked.device = device;
    EXPECT_FALSE(loaded.open(asked)) << device;
    expectMessage(MOERT_INVALID_ARGUMENT,
                  std::string("device '") + device + "' is not known: use cpu, cuda, cuda:N or emulator");
  }
  asked.device = "cpu";
  EXPECT_FALSE(loaded.open(asked));
  expectMessage(MOERT_UNSUPPORTED, "was compiled for cuda:sm_80, device 'cpu' needs a variant for CPUs: compile with "
                                   "--target cpu, or use --device cuda or --device emulator");
  moert_weights *weights = nullptr;
  EXPECT_FALSE(loaded.take(moert_weights_open(loaded.program, &asked, &weights)));
  expectMessage(MOERT_UNSUPPORTED, "device 'cpu' needs a variant for CPUs");
  asked = options();
  asked.graphs = 2;
  EXPECT_FALSE(loaded.open(asked));
  expectMessage(MOERT_INVALID_ARGUMENT, "graphs 2: must be -1, 0 or 1");
  asked = options();
  asked.dependent_launch = 1;
  EXPECT_FALSE(loaded.open(asked));
  expectMessage(MOERT_INVALID_ARGUMENT, "dependent_launch 1: must be -1 or 0");

  Toy plain;
  plain.write();
  ASSERT_TRUE(loaded.load(plain.package())) << loaded.message;
  EXPECT_FALSE(loaded.open(options()));
  expectMessage(MOERT_UNSUPPORTED, "was compiled for x86-64, device 'emulator' needs a variant for CUDA: compile with "
                                   "--target cuda:sm_80");
}

TEST_F(CudaTest, VariantsAreChosenByCapability) {
  VariantSpec newer = toy.variant(), exact = toy.variant();
  newer.target = "cuda:sm_100";
  exact.target = "cuda:sm_80a";
  toy.program.variants.insert(toy.program.variants.begin(), {newer, exact});
  open();
  EXPECT_TRUE(reportSays("has compute capability 9.0, it needs at least 10.0")) << loaded.report();
  EXPECT_TRUE(reportSays("has compute capability 9.0, it needs exactly 8.0")) << loaded.report();
  EXPECT_TRUE(reportSays("\"variant\":\"cuda:sm_80\""));
  moert_session_options asked = options();
  asked.variant = "cuda:sm_100";
  EXPECT_FALSE(loaded.open(asked));
  expectMessage(MOERT_UNSUPPORTED, "variant 'cuda:sm_100' was asked for, but the emulator '");
  asked.variant = "cuda:sm_70";
  EXPECT_FALSE(loaded.open(asked));
  expectMessage(MOERT_INVALID_ARGUMENT,
                "has no GPU variant 'cuda:sm_70', it has: cuda:sm_100, cuda:sm_80a, cuda:sm_80");
  toy.program.variants.pop_back();
  load();
  EXPECT_FALSE(loaded.open(options()));
  expectMessage(MOERT_UNSUPPORTED, "no variant runs on this machine (cuda:sm_100: the emulator '");
}

/// Machine code runs where PTX of the same name would, but only within a major capability.
TEST(MachineCodeTest, RunsOnCardsOfItsOwnKind) {
  EXPECT_TRUE(runsMachineCode(80, false, 80));
  EXPECT_TRUE(runsMachineCode(80, false, 89));
  EXPECT_FALSE(runsMachineCode(86, false, 80));
  EXPECT_FALSE(runsMachineCode(80, false, 90));
  EXPECT_TRUE(runsMachineCode(90, true, 90));
  EXPECT_FALSE(runsMachineCode(90, true, 100));
  EXPECT_FALSE(runsMachineCode(100, true, 103));
}

TEST_F(CudaTest, KernelsAreChecked) {
  refuses(MOERT_CORRUPT, "kernels-cuda-sm_80.ptx: kernel 'absent' is missing; compile the package again",
          [](VariantSpec &v) { v.kernels[0] = KernelSpec("absent", 32); });
  refuses(MOERT_CORRUPT, "kernel 'keep' has 8 parameters, command 0 launches it with 4 operands",
          [](VariantSpec &v) { v.kernels[0] = KernelSpec("keep", 32); });
  refuses(MOERT_UNSUPPORTED,
          "kernel 'embed' is launched with 64 threads per workgroup, as it was assembled for the "
          "emulator '",
          [](VariantSpec &v) { v.kernels[0].threads = 64; });
  const std::string text = readFile(TEST_PTX), path = toy.package() + "/changed.ptx";
  auto refusesText = [&](moert_code code, const std::string &part, const std::string &changed) {
    test::writeFile(path, changed);
    refuses(code, part, [&](VariantSpec &v) { v.kernelFile = path; });
  };
  std::string broken = text;
  broken.replace(broken.find("mad.lo.u32"), 10, "mud.lo.u32");
  refusesText(MOERT_UNSUPPORTED, "does not take the kernels: CUDA_ERROR_INVALID_PTX", broken);
  expectMessage(MOERT_UNSUPPORTED, "mud.lo.u32"); // the assembler's own words
  refusesText(MOERT_CORRUPT, "is no PTX: it has a byte of zero", text + std::string(1, '\0'));
  std::string narrow = text;
  narrow.replace(narrow.find("embed(.param .u64 a0"), 20, "embed(.param .u32 a0");
  narrow.replace(narrow.find("ld.param.u64 %d3, [a0]"), 22, "ld.param.u32 %d3, [a0]");
  refusesText(MOERT_CORRUPT, "kernel 'embed': parameter 0 has 4 bytes at offset 0, must be a 64-bit word at 0", narrow);
}

TEST_F(CudaTest, WhatTheBackendLacksIsRefusedAtLoad) {
  auto refusesLoad = [&](const std::string &part, const std::function<void(VariantSpec &)> &change) {
    ProgramSpec before = toy.program;
    change(toy.variant());
    toy.write();
    EXPECT_FALSE(loaded.load(toy.package())) << part;
    expectMessage(MOERT_UNSUPPORTED, part);
    toy.program = before;
  };
  refusesLoad("cannot run on the cuda backend: no host function is registered",
              [&](VariantSpec &v) { addCommand(toy.program, v, CommandKind::HostCall, "call", 0, {}); });
  for (uint16_t ranks : {uint16_t(1), uint16_t(2)}) {
    refusesLoad(ranks == 1 ? "an exchange is for several ranks" : "GPUs have no all-to-all of equal parts",
                [&](VariantSpec &v) {
                  v.ranks = ranks;
                  addCommand(toy.program, v, CommandKind::Collective, "swap",
                             uint32_t(ranks == 1 ? format::CollectiveKind::Exchange : format::CollectiveKind::AllToAll),
                             {});
                });
  }
}

TEST_F(CudaTest, MemoryThatIsNotThere) {
  toy.program.maxContext = 0;
  load();
  moert_session_options asked = options();
  asked.sequences = 64;
  asked.context = INT32_MAX;
  EXPECT_FALSE(loaded.open(asked));
  expectMessage(MOERT_OUT_OF_MEMORY, "64 sequences of 2147483647 tokens need 549755814788 bytes");
  expectMessage(MOERT_OUT_OF_MEMORY, "(524288 MiB) of buffers and KV cache, the emulator '");
  expectMessage(MOERT_OUT_OF_MEMORY, "' has 67108864: lower --sequences or --context");

  auto device = cuda::openDevice(/*emulator=*/true, 0);
  ASSERT_TRUE(device.ok());
  auto backend = openCudaBackend({}, *device);
  ASSERT_TRUE(backend.ok());
  auto half = (*backend)->allocate(40 << 20, "a half", Contents::Undefined);
  ASSERT_TRUE(half.ok());
  auto other = (*backend)->allocate(40 << 20, "the other", Contents::Undefined);
  ASSERT_FALSE(other.ok());
  EXPECT_EQ(
      other.status().message(),
      "the other needs 41943040 bytes (40 MiB) of memory on the emulator 'MOE emulator H100-like (sm_90a)', which "
      "has 25165824 free of 67108864: lower --sequences or --context, or end what else uses the GPU");
  (*backend)->release(*half);
  EXPECT_TRUE((*backend)->allocate(40 << 20, "the other", Contents::Undefined).ok());
}

/// A computed weight is made on the GPU once, comes from the cache then, and is made again when that is damaged.
TEST_F(CudaTest, InitializersAndTheirCache) {
  auto works = [&](const std::string &facts) {
    open();
    EXPECT_TRUE(reportSays(facts)) << loaded.report();
    ASSERT_TRUE(loaded.step({3, 1}, {0, 0}, {0, 1}, {1}, logits)) << loaded.message;
    for (int64_t v = 0; v < kVocab; ++v) {
      EXPECT_EQ(logits[size_t(v)], toy.expected({3, 1}, v)) << v;
    }
  };
  works("\"cache_hits\":0,\"computed\":1,\"stored\":1");
  works("\"cache_hits\":1,\"computed\":0,\"stored\":0");
  const std::string path = cacheFile();
  std::string contents = readFile(path);
  EXPECT_EQ(contents.size(), 4096u + 4 * kVocab);
  // The CPU would have written the same: 2 * head + bias.
  EXPECT_EQ(reinterpret_cast<const float *>(contents.data() + 4096)[5], 2 * 0.25f * 5 + 2);
  contents[4096] ^= 1;
  test::writeFile(path, contents);
  works("\"cache_hits\":0,\"computed\":1,\"stored\":1");
  EXPECT_TRUE(reportSays("cache file is damaged, computed again"));
  toy.writeCheckpoint(2);
  works("\"cache_hits\":0,\"computed\":1,\"stored\":1");
}

/// A result that is what it was computed from: its cache file is the header page alone. If the source is on the GPU, as
/// a result of another initializer is, it is read there; if only the initializer reads it, its bytes stay as the
/// result.
TEST_F(CudaTest, UnchangedResultsAreTheirSource) {
  toy.zeroHead = true;
  toy.writeCheckpoint(1);
  const format::Tensor &folded = *(toy.program.tensors.end() - 1);
  toy.program.tensors.push_back(format::Tensor(folded.file(), folded.dtype(), 1, toy.program.string("head.again"), 0,
                                               folded.bytes(), kVocab, 0, 0));
  const auto again = uint32_t(toy.program.tensors.size()) - 1;
  InitializerSpec second = toy.variant().initializers[0];
  second.result = again;
  second.key = std::string(64, 'b');
  second.firstCommand = uint32_t(toy.variant().commands.size());
  const int64_t bytes = 4 * kVocab;
  addCommand(toy.program, toy.variant(), CommandKind::Copy, "fetch", 0,
             {slice(0, Access::Write, extent(bytes)), span(kHead, 0, bytes)});
  addCommand(toy.program, toy.variant(), CommandKind::Launch, "fold", 4,
             {slice(0, Access::ReadWrite, extent(bytes)), span(kBias), constant(kVocab)});
  addCommand(toy.program, toy.variant(), CommandKind::Copy, "store", 0,
             {span(again, 0, bytes, Access::Write), slice(0, Access::Read, extent(bytes))});
  second.commandCount = 3;
  toy.variant().initializers.push_back(second);
  const uint64_t before = (*cuda::Driver::open(true))->findings();
  auto works = [&](const std::string &facts) {
    open();
    EXPECT_TRUE(reportSays(facts)) << loaded.report();
    EXPECT_EQ(findings(), before);
    ASSERT_TRUE(loaded.step({3, 1}, {0, 0}, {0, 1}, {1}, logits)) << loaded.message;
    EXPECT_EQ(logits, std::vector<float>(kVocab, 0.0f));
  };
  works("\"count\":2,\"bytes\":32,\"cache_hits\":0,\"computed\":2,\"stored\":2,\"unchanged\":2,");
  EXPECT_EQ(readFile(cacheFile()).size(), 4096u);
  works("\"count\":2,\"bytes\":32,\"cache_hits\":2,\"computed\":0,\"stored\":0,\"unchanged\":2,");

  // A step that reads the source has it there.
  addCommand(toy.program, toy.variant(), CommandKind::Launch, "look", 7,
             {slice(kState, Access::Write, extent(0, 0, 0, 0, 4)), span(kRawHead), constant(0), constant(0),
              constant(0), constant(0), constant(0), constant(0)});
  const auto look = uint32_t(toy.variant().commands.size()) - 1;
  toy.variant().steps[1] = StepVariant(2, kMaxTokens - 1, toy.variant().steps[1].first_command(), 4);
  toy.variant().steps.push_back(StepVariant(kMaxTokens, kMaxTokens, look, 1));
  works("\"count\":2,\"bytes\":0,\"cache_hits\":2,\"computed\":0,\"stored\":0,\"unchanged\":2,");
  moert_session_options elsewhere = options();
  elsewhere.cache = "/nonexistent/cache";
  ASSERT_TRUE(loaded.open(elsewhere)) << loaded.message;
  EXPECT_TRUE(reportSays("\"bytes\":0,\"cache_hits\":0,\"computed\":2,\"stored\":0,\"unchanged\":2,"))
      << loaded.report();
}

/// What only initializers read is moved for them and no longer; what steps read is moved once, and progress says so.
TEST_F(CudaTest, WeightsAreMovedOnce) {
  load();
  moert_session_options asked = options();
  std::vector<std::pair<uint64_t, uint64_t>> said;
  asked.progress_user = &said;
  asked.progress = [](void *user, const char *stage, uint64_t done, uint64_t total) {
    if (std::string(stage) == "upload weights") {
      static_cast<decltype(said) *>(user)->emplace_back(done, total);
    }
  };
  ASSERT_TRUE(loaded.open(asked)) << loaded.message;
  // embed and the two experts; head and bias are read by the initializer only.
  EXPECT_EQ(said, (std::vector<std::pair<uint64_t, uint64_t>>{{32, 40}, {36, 40}, {40, 40}}));
  EXPECT_TRUE(reportSays("\"weight_bytes\":136,\"copied_weight_bytes\":0")) << loaded.report();
}

/// On a card weights lie one behind the other, each where an allocation could begin; the emulator keeps them apart.
TEST_F(CudaTest, WeightsLieInOneAllocation) {
  auto device = cuda::openDevice(/*emulator=*/true, 0);
  ASSERT_TRUE(device.ok());
  auto opened = openCudaBackend({}, *device);
  ASSERT_TRUE(opened.ok());
  Backend &backend = **opened;
  const bool isShared = getenv("MOE_EMU_BUFFERS") != nullptr;
  std::vector<uint8_t> bytes(300);
  for (size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = uint8_t(i * 7);
  }
  const uint64_t before = backend.availableBytes();
  ASSERT_TRUE(backend.reserve({100, 300}, "weights").ok());
  EXPECT_EQ(before - backend.availableBytes() >= 768, isShared);
  std::vector<const uint8_t *> places;
  for (uint64_t size : {100, 300, 200}) { // the last is none of those that were announced
    auto address = backend.attach(bytes.data(), size, "a weight");
    ASSERT_TRUE(address.ok());
    places.push_back(static_cast<const uint8_t *>(*address));
  }
  EXPECT_EQ(places[1] == places[0] + 256, isShared);
  EXPECT_NE(places[2], places[1] + 512);
  for (size_t i = 0; i < places.size(); ++i) {
    std::vector<uint8_t> back(i == 0 ? 100 : 200);
    ASSERT_TRUE(backend.download(back.data(), places[i], back.size()));
    EXPECT_TRUE(std::equal(back.begin(), back.end(), bytes.begin())) << i;
  }
  const uint64_t full = backend.availableBytes();
  backend.release(const_cast<uint8_t *>(places[2]));
  EXPECT_GT(backend.availableBytes(), full);
}

TEST_F(CudaTest, GraphsAreOfStepsThatComeAgain) {
  open();
  auto token = [&](int32_t pos) { return loaded.step({2}, {0}, {pos}, {0}, logits); };
  ASSERT_TRUE(token(0)) << loaded.message;
  EXPECT_TRUE(reportSays("\"graphs_captured\":0,\"graphs_run\":0")) << loaded.report();
  for (int32_t pos = 1; pos < 4; ++pos) {
    ASSERT_TRUE(token(pos)) << loaded.message;
    EXPECT_EQ(logits[1], toy.expected(std::vector<int32_t>(size_t(pos) + 1, 2), 1));
  }
  EXPECT_TRUE(reportSays("\"graphs_captured\":1,\"graphs_run\":3")) << loaded.report();
  ASSERT_TRUE(loaded.step({2}, {0}, {4}, {}, logits)); // without a row: another graph
  EXPECT_TRUE(reportSays("\"graphs_captured\":1,\"graphs_run\":3")) << loaded.report();
  ASSERT_EQ(moert_session_trace(loaded.session, 1), nullptr);
  ASSERT_TRUE(token(5)); // traced steps run command by command
  EXPECT_TRUE(reportSays("\"graphs_captured\":1,\"graphs_run\":3")) << loaded.report();
  EXPECT_EQ(logits[1], toy.expected(std::vector<int32_t>(6, 2), 1));
}

/// More shapes than the emulator keeps memory for, each of its own: graphs go with their memory, and come again.
TEST_F(CudaTest, GraphsGoWithTheirMemory) {
  load();
  moert_session_options asked = options();
  asked.graphs = 1;
  ASSERT_TRUE(loaded.open(asked)) << loaded.message;
  const uint64_t before = findings();
  for (int round = 0; round < 2; ++round) {
    for (int32_t count = 1; count <= 6; ++count) {
      for (int32_t rows = 0; rows < 3 && rows <= count; ++rows) {
        std::vector<int32_t> tokens(size_t(count), 3), seq(size_t(count), 1), pos, wanted;
        for (int32_t i = 0; i < count; ++i) {
          pos.push_back(i);
        }
        for (int32_t i = 0; i < rows; ++i) {
          wanted.push_back(count - 1 - i);
        }
        ASSERT_TRUE(loaded.step(tokens, seq, pos, wanted, logits)) << loaded.message;
        for (int32_t i = 0; i < rows; ++i) {
          EXPECT_EQ(logits[size_t(i * kVocab + 2)], toy.expected(std::vector<int32_t>(size_t(count - i), 3), 2));
        }
      }
    }
  }
  const bool isShared = getenv("MOE_EMU_BUFFERS") != nullptr;
  EXPECT_TRUE(reportSays(concat("\"graphs_captured\":", isShared ? 17 : 34, ",\"graphs_run\":34"))) << loaded.report();
  EXPECT_EQ(findings(), before);
}

/// Without memory for another graph steps are launched, and the report says so.
TEST_F(CudaTest, GraphsWithoutMemory) {
  for (bool isUpload : {false, true}) {
    open();
    cuda::Driver &driver = **cuda::Driver::open(true);
    static int made, destroyed;
    static decltype(driver.graphInstantiate) realInstantiate;
    static decltype(driver.graphUpload) realUpload;
    static decltype(driver.graphExecDestroy) realDestroy;
    made = destroyed = 0;
    realInstantiate = driver.graphInstantiate;
    realUpload = driver.graphUpload;
    realDestroy = driver.graphExecDestroy;
    driver.graphExecDestroy = [](CUgraphExec executable) {
      ++destroyed;
      return realDestroy(executable);
    };
    if (isUpload) {
      driver.graphUpload = [](CUgraphExec executable, CUstream stream) {
        return ++made > 1 ? CUDA_ERROR_OUT_OF_MEMORY : realUpload(executable, stream);
      };
    } else {
      driver.graphInstantiate = [](CUgraphExec *executable, CUgraph graph, unsigned long long flags) {
        EXPECT_EQ(flags, 8u) << "kernels are to keep the priorities of their streams";
        return ++made > 1 ? CUDA_ERROR_OUT_OF_MEMORY : realInstantiate(executable, graph, flags);
      };
    }
    for (int32_t pos = 0; pos < 6; ++pos) {
      for (const std::vector<int32_t> &rows : {std::vector<int32_t>{0}, {}}) {
        EXPECT_TRUE(loaded.step({2}, {0}, {pos}, rows, logits)) << loaded.message;
      }
      EXPECT_TRUE(loaded.step({2}, {0}, {pos}, {0}, logits)) << loaded.message;
      EXPECT_EQ(logits[1], toy.expected(std::vector<int32_t>(size_t(pos) + 1, 2), 1));
    }
    driver.graphInstantiate = realInstantiate;
    driver.graphUpload = realUpload;
    driver.graphExecDestroy = realDestroy;
    EXPECT_EQ(made, 2);
    EXPECT_EQ(destroyed, isUpload ? 1 : 0) << "a graph that could not be uploaded";
    EXPECT_TRUE(reportSays("\"graphs_captured\":1,\"graphs_run\":11")) << loaded.report();
    EXPECT_TRUE(reportSays("had no memory for more than 1 graphs: steps are launched kernel by kernel"));
  }
}

/// Kernels that wait for those before them are launched while these run: where one only says that it waits, the
/// emulator sees what it reads too early.
TEST_F(CudaTest, KernelsAreLaunchedEarly) {
  std::string waiting = readFile(TEST_PTX);
  waiting.replace(waiting.find(".version 7.0"), 12, ".version 7.8");
  waiting.replace(waiting.find(".target sm_80"), 13, ".target sm_90");
  std::string hasty = waiting;
  const std::string entry = ".reqntid 32\n{\n";
  for (size_t at = 0; (at = waiting.find(entry, at)) != std::string::npos; at += entry.size()) {
    waiting.insert(at + entry.size(), "griddepcontrol.wait;\ngriddepcontrol.launch_dependents;\n");
  }
  toy.write();
  const std::string path = toy.package() + "/early.ptx";
  for (const std::string &text : {waiting, hasty}) {
    test::writeFile(path, text);
    for (int dependent : {0, -1}) {
      for (int graphs : {-1, 1}) {
        Toy fresh;
        makeForGpu(fresh);
        VariantSpec &v = fresh.variant();
        v.target = "cuda:sm_90";
        v.kernelFile = path;
        for (KernelSpec &kernel : v.kernels) {
          kernel.waits = true;
        }
        fresh.write();
        ASSERT_TRUE(loaded.load(fresh.package())) << loaded.message;
        moert_session_options asked = options();
        asked.graphs = graphs;
        asked.dependent_launch = dependent;
        ASSERT_TRUE(loaded.open(asked)) << loaded.message;
        const uint64_t before = findings();
        for (int32_t pos = 0; pos < 3; ++pos) {
          ASSERT_TRUE(loaded.step({2, 3}, {0, 1}, {pos, pos}, {0, 1}, logits)) << loaded.message;
        }
        EXPECT_EQ(findings() > before, text == hasty && dependent == 0) << dependent << ", " << graphs;
        if (text == waiting) {
          EXPECT_EQ(logits[1], fresh.expected({2, 2, 2}, 1));
        }
      }
    }
  }
}

/// A fault ends the session with the error's name, and the process's next session on the device works.
TEST_F(CudaTest, FaultsAreNamedAndEndTheSession) {
  for (bool traced : {false, true}) {
    Toy good;
    makeForGpu(good);
    good.write();
    Loaded witness; // shares the device
    ASSERT_TRUE(witness.load(good.package())) << witness.message;
    ASSERT_TRUE(witness.open(options())) << witness.message;
    stepOf("astray", kStray, {slice(kState, Access::ReadWrite, extent(0, 0, 0, 0, 4))});
    open();
    ASSERT_EQ(moert_session_trace(loaded.session, traced), nullptr);
    EXPECT_FALSE(loaded.step({1}, {0}, {0}, {0}, logits));
    expectMessage(MOERT_INTERNAL, "CUDA_ERROR_ILLEGAL_ADDRESS");
    expectMessage(MOERT_INTERNAL, traced ? "'astray': the emulator '" : "a step of 1 tokens: the emulator '");
    if (!traced) {
      expectMessage(MOERT_INTERNAL, "moe-run profile runs commands one by one and says which it was");
    }
    EXPECT_FALSE(loaded.step({1}, {0}, {0}, {0}, logits));
    expectMessage(MOERT_INTERNAL, "the session cannot run another");
    // The context is spoilt for all who share it, and for who comes while they are there.
    EXPECT_FALSE(witness.step({1}, {0}, {0}, {0}, logits));
    EXPECT_NE(witness.message.find("CUDA_ERROR_ILLEGAL_ADDRESS"), std::string::npos) << witness.message;
    moert_session_free(loaded.session);
    loaded.session = nullptr;
    Loaded next;
    ASSERT_TRUE(next.load(good.package()));
    EXPECT_FALSE(next.open(options()));
    EXPECT_NE(next.message.find("works again only when all sessions that used it are freed"), std::string::npos)
        << next.message;
    moert_session_free(witness.session);
    witness.session = nullptr;
    ASSERT_TRUE(next.open(options())) << next.message;
    ASSERT_TRUE(next.step({3, 1}, {0, 0}, {0, 1}, {1}, logits)) << next.message;
    EXPECT_EQ(logits[1], good.expected({3, 1}, 1));
  }
}

/// On the emulator an arena hides nothing: a value has the bytes that it has at the step's T, and what it holds at
/// first is undefined. A kernel that writes 56 bytes is right from T = 14 on.
TEST_F(CudaTest, ValuesHaveMemoryOfTheirOwn) {
  stepOf("keep", 7,
         {slice(kArena, Access::Write, extent(0, 4)), constant(0), constant(0), constant(0), constant(0), constant(0),
          constant(0), constant(0)});
  open();
  auto feed = [&](size_t tokens) {
    std::vector<int32_t> positions;
    for (size_t t = 0; t < tokens; ++t) {
      positions.push_back(int32_t(t));
    }
    return loaded.step(std::vector<int32_t>(tokens, 1), std::vector<int32_t>(tokens, 0), positions, {}, logits);
  };
  const uint64_t before = findings();
  EXPECT_TRUE(feed(14)) << loaded.message;
  EXPECT_EQ(findings(), before);
  EXPECT_FALSE(feed(13));
  expectMessage(MOERT_INTERNAL, "CUDA_ERROR_ILLEGAL_ADDRESS");
}

/// What an earlier step left in a value is not what a step reads: here it is read first, and written at the end.
TEST_F(CudaTest, ValuesAreUndefinedAtFirst) {
  for (int graphs : {-1, 1}) {
    VariantSpec &v = toy.variant();
    const auto first = uint32_t(v.commands.size());
    addCommand(toy.program, v, CommandKind::Launch, "embed", 0,
               {slice(kArena, Access::ReadWrite, extent(0, 4)), span(kEmbed),
                slice(kArena, Access::Write, extent(0, 4), 4 * kMaxTokens), size(format::Dim::T)});
    addCommand(toy.program, v, CommandKind::Fill, "clear", 0, {slice(kArena, Access::Write, extent(0, 4))});
    v.steps = {StepVariant(1, kMaxTokens, first, 2)};
    load();
    moert_session_options asked = options();
    asked.graphs = graphs;
    ASSERT_TRUE(loaded.open(asked)) << loaded.message;
    for (int round = 1; round < 3; ++round) {
      const uint64_t before = findings();
      (void)loaded.step({1}, {0}, {0}, {}, logits); // may fault on top, at an address made of it
      EXPECT_GT(findings(), before) << "round " << round;
    }
  }
}

/// Steps of more sizes than are remembered, twice: each finds its memory again, or new.
TEST_F(CudaTest, ManySizesOfSteps) {
  load();
  moert_session_options asked = options();
  asked.graphs = 1;
  ASSERT_TRUE(loaded.open(asked)) << loaded.message;
  const uint64_t before = findings();
  for (int round = 0; round < 2; ++round) {
    for (int32_t tokens = 1; tokens <= kMaxTokens; ++tokens) {
      for (int32_t rows = 0; rows < 2; ++rows) {
        std::vector<int32_t> positions;
        for (int32_t t = 0; t < tokens; ++t) {
          positions.push_back(t);
        }
        ASSERT_TRUE(loaded.step(std::vector<int32_t>(size_t(tokens), 2), std::vector<int32_t>(size_t(tokens), 0),
                                positions, rows ? std::vector<int32_t>{tokens - 1} : std::vector<int32_t>(), logits))
            << loaded.message;
        if (rows) {
          EXPECT_EQ(logits[3], toy.expected(std::vector<int32_t>(size_t(tokens), 2), 3)) << tokens;
        }
      }
    }
  }
  EXPECT_EQ(findings(), before);
}

TEST_F(CudaTest, KernelsThatTrap) {
  toy.variant().kernels[kStray] = KernelSpec("halt", 32);
  stepOf("halts", kStray, {});
  open();
  EXPECT_FALSE(loaded.step({1}, {0}, {0}, {0}, logits));
  expectMessage(MOERT_INTERNAL, "a step of 1 tokens: the emulator '");
  // The call that found it has nothing to do with it; the one kernel that was launched has.
  expectMessage(MOERT_INTERNAL, "': kernel 'halt' failed: CUDA_ERROR_LAUNCH_FAILED (unspecified launch failure)");

  // Of several any may be it.
  const auto first = uint32_t(toy.variant().commands.size());
  addCommand(toy.program, toy.variant(), CommandKind::Launch, "halts", kStray, {});
  addCommand(toy.program, toy.variant(), CommandKind::Launch, "halts", kStray, {});
  toy.variant().steps = {StepVariant(1, kMaxTokens, first, 2)};
  open();
  EXPECT_FALSE(loaded.step({1}, {0}, {0}, {0}, logits));
  expectMessage(MOERT_INTERNAL, "': a kernel failed: CUDA_ERROR_LAUNCH_FAILED");
}

/// Steps are ranges for profilers. The library is found by its name, which a test's one may bear.
TEST_F(CudaTest, StepsAreRanges) {
  void *library = dlopen(TEST_RANGES, RTLD_NOW | RTLD_GLOBAL);
  ASSERT_NE(library, nullptr) << dlerror();
  open();
  ASSERT_TRUE(loaded.step({3, 1}, {0, 0}, {0, 1}, {1}, logits)) << loaded.message;
  EXPECT_STREQ(static_cast<const char *>(dlsym(library, "said")), "(step T=2 M=1;);");
}

TEST_F(CudaTest, MissedDeadlines) {
  stepOf("slow", kLinger, {});
  load();
  moert_session_options asked = options();
  asked.deadline_seconds = 0.05;
  ASSERT_TRUE(loaded.open(asked)) << loaded.message;
  EXPECT_FALSE(loaded.step({1}, {0}, {0}, {0}, logits));
  expectMessage(MOERT_DEADLINE, "a step of 1 tokens was not done within 0.05");
  EXPECT_FALSE(loaded.step({1}, {0}, {0}, {0}, logits));
  expectMessage(MOERT_DEADLINE, "an earlier step was not done by its deadline");
}

} // namespace

int main(int argc, char **argv) {
  setenv("MOE_EMU_DEVICE", "h100", 1);
  setenv("MOE_EMU_MEMORY", "64", 1);
  hasDriver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL) != nullptr;
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
