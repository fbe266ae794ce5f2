// A toy package for the runtime's tests: built in memory, changed by a test, written to a temporary folder, run.
//
// The toy model has one scalar per token: x = embed[token]; the state [B, C] keeps it; y = sum over the sequence so
// far, times an expert's factor from a weight table; logits[v] = y * head[v], where head is made by an initializer (2 *
// head + bias). Everything the format can say is in it: all operand kinds of a CPU, all buffer kinds, two step variants
// (T = 1 and more), a misaligned tensor, an initializer with scratch.
#ifndef TEST_RUNTIME_TESTPACKAGE_H
#define TEST_RUNTIME_TESTPACKAGE_H

#include "runtime/format/program_generated.h"
#include "runtime/include/moert/moert.h"

#include <string>
#include <vector>

namespace moert::test {

constexpr int64_t kVocab = 8;
constexpr int64_t kMaxTokens = 16;

format::Extent extent(int64_t fixed, int64_t perToken = 0, int64_t perRow = 0, int64_t perSequence = 0,
                      int64_t perCacheRow = 0);

struct FileSpec {
  std::string name;
  uint64_t size = 0;
  int64_t mtimeNs = 0;
  std::string headerSha256, sha256; ///< raw bytes
  uint64_t headerBytes = 0;         ///< 0: a safetensors header, as in packages of format 1.2
};
struct InitializerSpec {
  uint32_t result = 0;
  std::string key;
  uint32_t firstCommand = 0, commandCount = 0;
  std::vector<format::Buffer> scratch;
};
struct EntrySpec {
  std::string name;
  std::vector<uint32_t> inputs, outputs;
  std::vector<format::StepVariant> steps;
};
struct KernelSpec {
  KernelSpec(const char *symbol, uint32_t threads = 0, uint32_t sharedBytes = 0)
      : symbol(symbol), threads(threads), sharedBytes(sharedBytes) {}
  std::string symbol;
  uint32_t threads, sharedBytes; ///< of GPUs
  bool waits = false;            ///< the same
};
struct VariantSpec {
  std::string target = "x86-64";
  std::vector<std::string> features;
  std::string blob = "kernels-x86-64.so";
  std::string blobSha256; ///< raw; empty: of the file
  std::string kernelFile; ///< copied to `blob`; empty: the toy's
  std::vector<KernelSpec> kernels;
  std::vector<format::Buffer> buffers;
  std::vector<format::Operand> operands;
  std::vector<format::TensorMap> tensorMaps;
  std::vector<format::Command> commands;
  std::vector<format::StepVariant> steps;
  std::vector<InitializerSpec> initializers;
  std::vector<EntrySpec> entries;
  uint32_t events = 0;
  uint8_t streams = 1;
  uint16_t ranks = 1;
  format::RankInputs rankInputs = format::RankInputs::Replicated;
};
struct ProgramSpec {
  uint16_t major = 1, minor = 0;
  int64_t vocab = kVocab, maxTokens = kMaxTokens, maxContext = 64;
  std::string hint;
  std::vector<std::string> strings;
  std::vector<FileSpec> files;
  std::vector<format::Tensor> tensors;
  std::vector<format::WeightTable> tables;
  std::vector<format::TableEntry> tableEntries;
  std::string constants;
  std::vector<VariantSpec> variants;
  std::vector<std::pair<std::string, std::string>> packageFiles; ///< name, contents
  std::string packageDigest;                                     ///< raw; empty: of each file

  uint32_t string(const std::string &text);
  /// The FlatBuffer, not sealed.
  std::string flatbuffer() const;
};

/// Appends a command with its operands and returns its index.
uint32_t addCommand(ProgramSpec &program, VariantSpec &variant, format::CommandKind kind, const std::string &name,
                    uint32_t target, const std::vector<format::Operand> &operands,
                    const format::Grid &grid = format::Grid(extent(1), 1, 0, 1), uint64_t value = 0,
                    uint8_t stream = 0);

format::Operand slice(uint32_t buffer, format::Access access, const format::Extent &bytes, uint64_t offset = 0);
format::Operand span(uint32_t tensor, uint64_t offset = 0, int64_t bytes = 0,
                     format::Access access = format::Access::Read, uint64_t perRank = 0);
format::Operand table(uint32_t index, uint64_t perRank = 0);
format::Operand size(format::Dim dim);
format::Operand constant(uint64_t value);

/// A temporary folder, removed with its contents.
class TemporaryFolder {
public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder &) = delete;
  std::string path;
};

std::string readFile(const std::string &path);
void writeFile(const std::string &path, const std::string &contents);

/// Indices into the toy's buffers and tensors, for tests that change them.
enum ToyBuffer : uint32_t { kArena, kTokens, kSeq, kPos, kRuns, kRows, kLogits, kState };
enum ToyTensor : uint32_t { kEmbed, kExpert0, kExpert1, kRawHead, kBias, kHead };

/// Weights and package of the toy in one temporary folder.
class Toy {
public:
  Toy();
  virtual ~Toy() = default;

  ProgramSpec program;
  VariantSpec &variant() { return program.variants[0]; }

  std::string package() const { return folder.path + "/package"; }
  std::string checkpoint() const { return folder.path + "/checkpoint"; }
  std::string cache() const { return package() + "/cache"; }
  std::string programPath() const { return package() + "/program.moep"; }
  /// Writes the package as `program` says; seals it.
  void write() const;
  /// Whether head and bias of the checkpoint are 0, so that the initializer's result is its source.
  bool zeroHead = false;
  /// Rewrites the checkpoint with other values of the same shapes.
  void writeCheckpoint(float embedScale);

  /// What the toy computes for `sequence` (tokens from position 0 on) after the last of them, logit `v`.
  float expected(const std::vector<int32_t> &sequence, int64_t v) const;

private:
  TemporaryFolder folder;
  float embedScale = 1;
};

/// A loaded program or session with its error as text; frees what it holds.
class Loaded {
public:
  ~Loaded();
  moert_program *program = nullptr;
  moert_session *session = nullptr;
  moert_code code = moert_code(0);
  std::string message;

  bool load(const std::string &package);
  bool open(const moert_session_options &options);
  bool step(const std::vector<int32_t> &tokens, const std::vector<int32_t> &seq, const std::vector<int32_t> &pos,
            const std::vector<int32_t> &rows, std::vector<float> &logits);
  std::string report();
  /// Keeps the code and message of `status` and frees it; true if it is none.
  bool take(moert_status *status);
};

moert_session_options defaultOptions();

} // namespace moert::test

#endif // TEST_RUNTIME_TESTPACKAGE_H
