// A package from sched IR, end to end: written with the toy kernels of the runtime's tests, loaded by libmoert, run.
//
// The toy model has one scalar per token: x = embed[token]; y = sum of the sequence so far, times the factor of expert
// 1; logits[v] = y * (2 * head[v] + bias[v]), the last factor made by an initializer.

#include "lowering/SchedToProgram/SchedToProgram.h"
#include "mlir/Parser/Parser.h"
#include "runtime/include/moert/moert.h"
#include "runtime/readers/Safetensors.h"
#include "test/runtime/readers/TempFolder.h"
#include "gtest/gtest.h"

#include <cstring>
#include <sstream>
#include <vector>

using namespace mlir;
using moert::readers::Checkpoint;

namespace {

constexpr const char *kProgram = R"mlir(
sched.program vocab 8 max_tokens 16 max_context 64 dtype f32 compiler "test" model "{\"family\": \"toy\"}" {
  sched.tensor @embed : tensor<8xf32>
  sched.tensor @head : tensor<8xf32>
  sched.tensor @bias : tensor<8xf32>
  sched.tensor @factors : tensor<2x1xf32>
  sched.tensor @folded computed : tensor<8xf32>
  sched.table @experts [@factors, @factors[4]]
  sched.variant "x86-64" {
    sched.kernel @embed
    sched.kernel @accumulate
    sched.kernel @scale
    sched.kernel @project
    sched.kernel @fold
    sched.buffer @arena arena size 128
    sched.buffer @memory state size 4*B*C
    sched.buffer @tokens input size 4*T
    sched.buffer @seq input size 4*T
    sched.buffer @pos input size 4*T
    sched.buffer @runs input size 4 + 4*B
    sched.buffer @rows input size 4*M
    sched.buffer @logits output size 32*M
    sched.initializer @folded {
      sched.copy (write weight @folded[0, 32], weight @head[0, 32])
      sched.launch @fold grid(1) (readwrite weight @folded[0, 32], weight @bias[0], constant 8)
    }
    sched.step tokens 1 to 16 {
      sched.launch @embed grid(T ceildiv 2) (read @tokens[0, 4*T], weight @embed[0], write @arena[0, 4*T], size T)
      sched.launch @accumulate grid(B) (read @arena[0, 4*T], read @seq[0, 4*T], read @pos[0, 4*T], readwrite @memory[0, 4*B*C],
        write @arena[64, 4*T], size T, size C, read @runs[0, 4 + 4*B])
      sched.launch @scale grid(1) (table @experts, readwrite @arena[64, 4*T], size T, constant 1)
      sched.launch @project grid(M) (read @arena[64, 4*T], read @rows[0, 4*M], weight @folded[0], write @logits[0, 32*M], constant 8)
    }
  }
}
)mlir";

/// A safetensors file with the toy model's tensors.
std::string makeSafetensors(const char *factorsShape = "[2,1]") {
  std::string header = std::string("{\"bias\":{\"dtype\":\"F32\",\"shape\":[8],\"data_offsets\":[0,32]},") +
                       "\"embed\":{\"dtype\":\"F32\",\"shape\":[8],\"data_offsets\":[32,64]}," +
                       "\"factors\":{\"dtype\":\"F32\",\"shape\":" + factorsShape + ",\"data_offsets\":[64,72]}," +
                       "\"head\":{\"dtype\":\"F32\",\"shape\":[8],\"data_offsets\":[72,104]}}";
  std::vector<float> data;
  for (int i = 0; i < 8; ++i) {
    data.push_back(0.5f * i); // bias
  }
  for (int i = 0; i < 8; ++i) {
    data.push_back(1.0f + i); // embed
  }
  data.insert(data.end(), {3.0f, 10.0f}); // factors
  for (int i = 0; i < 8; ++i) {
    data.push_back(i - 4.0f); // head
  }
  uint64_t size = header.size();
  return std::string(reinterpret_cast<const char *>(&size), 8) + header +
         std::string(reinterpret_cast<const char *>(data.data()), data.size() * sizeof(float));
}

std::string readFile(const std::string &path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

class WritePackageTest : public ::testing::Test {
protected:
  WritePackageTest() {
    context.loadDialect<sched::SchedDialect>();
    context.getDiagEngine().registerHandler([this](Diagnostic &diagnostic) { messages += diagnostic.str() + "\n"; });
    weights.write("model.safetensors", makeSafetensors());
    blobs.push_back({"x86-64", readFile(TEST_KERNELS)});
  }

  /// Parses the program with `from` replaced by `to` and writes its package.
  LogicalResult write(const TempFolder &package, const std::string &from = "", const std::string &to = "") {
    std::string text = kProgram;
    for (size_t at = 0; !from.empty() && (at = text.find(from, at)) != std::string::npos; at += to.size()) {
      text.replace(at, from.size(), to);
    }
    OwningOpRef<ModuleOp> module = parseSourceString<ModuleOp>(text, &context);
    if (!module) {
      return failure();
    }
    auto checkpoint = Checkpoint::open(weights.path());
    EXPECT_TRUE(checkpoint.ok()) << checkpoint.status().message();
    return sched::writePackage(*module, blobs, *checkpoint, package.path());
  }

  MLIRContext context;
  std::string messages;
  TempFolder weights;
  std::vector<sched::KernelBlob> blobs;
};

TEST_F(WritePackageTest, runsInTheRuntime) {
  TempFolder package;
  package.write("tokenizer.json", "{}");
  ASSERT_TRUE(succeeded(write(package))) << messages;

  auto ok = [](moert_status *status) {
    std::string message = status ? moert_status_message(status) : "";
    moert_status_free(status);
    return message;
  };
  moert_program *program = nullptr;
  ASSERT_EQ(ok(moert_program_load(package.path().c_str(), &program)), "");
  moert_program_info info;
  ASSERT_EQ(ok(moert_program_get_info(program, &info)), "");
  EXPECT_EQ(info.vocab, 8);
  EXPECT_STREQ(info.compiler, "test");
  moert_session_options options = {};
  options.struct_size = sizeof(options);
  options.weights = weights.path().c_str();
  options.sequences = 2;
  options.context = 8;
  options.threads = 1;
  moert_session *session = nullptr;
  ASSERT_EQ(ok(moert_session_create(program, &options, &session)), "");

  // Sequence 0: tokens 2, 3; sequence 1: token 7. y = 10 * (3, 7) and 10 * 8.
  int32_t tokens[] = {2, 3, 7}, seq[] = {0, 0, 1}, pos[] = {0, 1, 0}, rows[] = {1, 2};
  float logits[16];
  moert_step_input input = {3, tokens, seq, pos, 2, rows};
  ASSERT_EQ(ok(moert_session_step(session, &input, logits)), "");
  for (int v = 0; v < 8; ++v) {
    float head = 2 * (v - 4.0f) + 0.5f * v;
    EXPECT_EQ(logits[v], 70 * head);
    EXPECT_EQ(logits[8 + v], 80 * head);
  }
  moert_session_free(session);
  moert_program_free(program);
}

TEST_F(WritePackageTest, isDeterministicAndReadableByTools) {
  TempFolder first, second;
  ASSERT_TRUE(succeeded(write(first)) && succeeded(write(second))) << messages;
  EXPECT_EQ(readFile(first.path("program.moep")), readFile(second.path("program.moep")));
  std::string manifest = readFile(first.path("manifest.json"));
  EXPECT_EQ(manifest, readFile(second.path("manifest.json")));
  EXPECT_NE(manifest.find("\"family\": \"toy\""), std::string::npos) << manifest;
  EXPECT_NE(manifest.find("\"name\": \"kernels-x86-64.so\""), std::string::npos) << manifest;
  EXPECT_NE(manifest.find("\"size\": " + std::to_string(blobs[0].bytes.size())), std::string::npos) << manifest;
}

TEST_F(WritePackageTest, keysFollowTheCheckpoint) {
  auto keyOf = [&](const TempFolder &package) {
    Location location = UnknownLoc::get(&context);
    auto module = sched::deserializeProgram(readFile(package.path("program.moep")), location);
    std::string key;
    (*module)->walk([&](sched::InitializerOp initializer) { key = initializer.getKey()->str(); });
    return key;
  };
  TempFolder first, other;
  ASSERT_TRUE(succeeded(write(first)));
  std::filesystem::last_write_time(weights.path("model.safetensors"), std::filesystem::file_time_type::clock::now());
  ASSERT_TRUE(succeeded(write(other)));
  EXPECT_EQ(keyOf(first).size(), 64u);
  EXPECT_NE(keyOf(first), keyOf(other));
}

TEST_F(WritePackageTest, refusesWhatIsMissing) {
  TempFolder package;
  EXPECT_TRUE(failed(write(package, "@embed", "@wte")));
  EXPECT_NE(messages.find("tensor \"wte\" is not in the checkpoint (4 tensors)"), std::string::npos) << messages;
  messages.clear();
  EXPECT_TRUE(failed(write(package, "\"x86-64\"", "\"riscv\"")));
  EXPECT_NE(messages.find("\"riscv\" is not among the 1 linked targets"), std::string::npos) << messages;
  messages.clear();
  blobs.push_back({"x86-64-v9", ""});
  EXPECT_TRUE(failed(write(package)));
  EXPECT_NE(messages.find("no variant for the kernels of target 'x86-64-v9'"), std::string::npos) << messages;
}

TEST_F(WritePackageTest, refusesAnotherShape) {
  weights.write("model.safetensors", makeSafetensors("[1,2]"));
  TempFolder package;
  EXPECT_TRUE(failed(write(package)));
  EXPECT_NE(messages.find("'tensor<2x1xf32>' in the program, but 'tensor<1x2xf32>' in "), std::string::npos)
      << messages;
}

TEST_F(WritePackageTest, refusesAFolderThatCannotBeWritten) {
  TempFolder package;
  std::filesystem::create_directory(package.path("kernels-x86-64.so")); // A folder where a file should be.
  EXPECT_TRUE(failed(write(package)));
  EXPECT_NE(messages.find("cannot write " + package.path("kernels-x86-64.so")), std::string::npos) << messages;
}

/// Every byte of a program file matters: flipped, it is refused and nothing crashes.
TEST_F(WritePackageTest, corruptionIsFound) {
  TempFolder package;
  ASSERT_TRUE(succeeded(write(package))) << messages;
  std::string bytes = readFile(package.path("program.moep"));
  Location location = UnknownLoc::get(&context);
  for (size_t i = 0; i < bytes.size(); i += 7) {
    std::string broken = bytes;
    broken[i] ^= 0x10;
    messages.clear();
    EXPECT_FALSE(sched::deserializeProgram(broken, location)) << "byte " << i;
    EXPECT_NE(messages, "");
  }
  EXPECT_FALSE(sched::deserializeProgram(bytes.substr(0, 20), location));
}

} // namespace
