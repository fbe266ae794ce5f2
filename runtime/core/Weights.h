//===- Weights.h - The checkpoint, mapped ------------------------*- C++ -*-===//
//
// Finds the checkpoint's files, proves that they are the ones that the program was compiled for (size and header
// digest) and maps them. A tensor is read where it lies, unless its offset does not suit its element type: then it is
// copied. On a GPU, what the steps read is copied there once; what only initializers read comes and goes with them.
// Results of initializers are added by Initializers.h.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_CORE_WEIGHTS_H
#define MOERT_CORE_WEIGHTS_H

#include "runtime/core/Backend.h"
#include "runtime/core/File.h"
#include "runtime/core/Program.h"

#include <deque>
#include <functional>

namespace moert {

/// Reports progress of a long stage: name, done, total.
using Progress = std::function<void(const char *stage, uint64_t done, uint64_t total)>;

class Weights {
public:
  /// Opens and maps; `folder` empty: the recorded hint. `verify` hashes whole files too. What is worth knowing but no
  /// error is appended to `notes`.
  Status open(const Program &program, size_t variant, RankPlace place, const std::string &folder, bool verify,
              Backend &backend, const Progress &progress, std::vector<std::string> &notes);

  /// Address of a tensor as kernels see it, null for one that no initializer has written yet or nobody uses.
  const uint8_t *tensor(uint32_t index) const { return addresses[index]; }
  void setTensor(uint32_t index, const void *address) { addresses[index] = static_cast<const uint8_t *>(address); }

  /// The bytes of a tensor of the checkpoint where they are mapped; null of others.
  const uint8_t *hostTensor(uint32_t index) const { return hostAddresses[index]; }
  /// Makes a tensor of the checkpoint one that kernels can read, if it is not; true: it was not, and may be let go.
  Result<bool> bring(uint32_t index);
  void letGo(uint32_t index);

  /// Builds (once) the pointer array of a table and returns it as kernels see it.
  Result<const void *> table(uint32_t index);
  /// Makes (once) the tensor maps that a recipe of `variant` describes and returns where kernels see them.
  Result<const void *> tensorMaps(const format::Variant &variant, uint32_t index, RankPlace place);
  /// Forgets the arrays of tables: their tensors come or go.
  void forgetTables();

  /// What a reader opens to read the checkpoint: its folder or, if the weights are one GGUF file, that.
  const std::string &checkpoint() const { return checkpointPath; }
  /// Bytes of the tensors that the rank reads (of spans per rank only its own), and how many of them had to be copied.
  uint64_t usedBytes() const { return used; }
  uint64_t copiedBytes() const { return copied; }
  int64_t modifiedNs(uint32_t file) const { return files[file].modifiedNs(); }
  /// Hex SHA-256 of whole files, if they were hashed.
  const std::vector<std::string> &fileDigests() const { return digests; }

private:
  Status checkIdentity(const File &file, const format::File &expected, std::vector<std::string> &notes);
  void adviseMapping();
  Status hashFiles(const Program &program, const Progress &progress);
  Status placeTensors(const std::vector<uint64_t> &bytesUsed, const std::vector<uint64_t> &bytesOfSteps,
                      const Progress &progress, std::vector<std::string> &notes);
  std::string nameOf(uint32_t tensor) const;

  std::string directory, checkpointPath;
  Backend *backend = nullptr;
  std::vector<File> files;
  std::vector<Pages> mapped;
  std::vector<Pages> copies;
  /// Per tensor where kernels see it, and where the host does.
  std::vector<const uint8_t *> addresses, hostAddresses;
  /// A table's pointers, and where kernels see them; null until asked for. A deque, so that arrays stay where they are.
  struct Table {
    std::vector<uint64_t> pointers;
    const void *address = nullptr;
  };
  std::deque<Table> tables;
  /// Per recipe of the variant where its maps are; null until asked for.
  std::vector<const void *> maps;
  const format::Program *root = nullptr;
  std::vector<std::string> digests;
  uint64_t used = 0, copied = 0;
};

} // namespace moert

#endif // MOERT_CORE_WEIGHTS_H
