//===- Initializers.h - Weights that are computed once ------------*- C++ -*-===//
//
// Runs the initializers of a variant: commands over weights that write one tensor each, in list order, one result in
// memory at a time. A result is cached on disk (header page with key and digest, then the bytes) and mapped from there;
// a cache file that is not whole is computed again, and without a writable cache the result stays in memory. On a GPU
// the result stays in its memory, and tensors that no step reads are there only while they are read.
//
// A result that is byte for byte what it was computed from, such as a weight scaled by 1, is not kept: the source is
// read in its place, and the cache file only says which.
//
// The key on disk covers the program's key, the kernels' digest, and for every source tensor its place, the file's
// modification time and a sample of its bytes, so that other weights of the same shapes do not meet a stale result. Of
// an initializer that differs between ranks it covers rank and ranks as well; all others are shared by the ranks.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_CORE_INITIALIZERS_H
#define MOERT_CORE_INITIALIZERS_H

#include "runtime/core/Backend.h"
#include "runtime/core/Program.h"
#include "runtime/core/Weights.h"

namespace moert {

/// What happened, for the report.
struct InitializerFacts {
  uint32_t count = 0, cacheHits = 0, computed = 0, stored = 0;
  /// Of those computed or found in the cache: results that are their source.
  uint32_t unchanged = 0;
  /// Of the others, and on a GPU of those whose source is not there.
  uint64_t bytes = 0;
};

class Initializers {
public:
  Initializers(const Program &program, size_t variant, RankPlace place, Backend &backend,
               const std::vector<void *> &kernels, Weights &weights, std::string cacheFolder)
      : program(program), variant(program.variant(variant)), place(place), backend(backend), kernels(kernels),
        weights(weights), cacheFolder(std::move(cacheFolder)) {}

  Status run(const Progress &progress, std::vector<std::string> &notes);

  /// Computes one of them into `result`, which has the bytes of its tensor; what it reads is computed already.
  Status compute(const format::Initializer &initializer, uint8_t *result);

  const InitializerFacts &facts() const { return done; }

private:
  /// Where a weight lies: a tensor, from a byte on.
  struct Place {
    uint64_t tensor, offset;
    bool operator==(const Place &other) const { return tensor == other.tensor && offset == other.offset; }
  };
  /// Calls `visit` with every operand of its commands.
  template <typename Visit> void forEachOperand(const format::Initializer &initializer, Visit visit) const;
  /// What an initializer reads that is as long as its result, and the same on all ranks.
  std::vector<Place> sourcesOf(const format::Initializer &initializer) const;
  Result<bool> isSame(const Place &source, const void *result, uint64_t bytes);
  Result<const void *> onHost(const void *memory, uint64_t bytes, Pages &copy);
  /// Takes `source` for the result, and releases `computed` (null: none), which has the same bytes; on a GPU where
  /// `source` lies no more, those bytes stay, or are copied there.
  Status useSource(const format::Initializer &initializer, const Place &source, void *computed);
  std::string nameOf(const format::Initializer &initializer) const;
  std::string cacheKey(const format::Initializer &initializer) const;
  /// The tensors of the checkpoint and results that `initializer` reads, some maybe twice.
  std::vector<uint32_t> tensorsReadBy(const format::Initializer &initializer) const;
  Status computeWithSources(const format::Initializer &initializer, uint8_t *result);
  Result<bool> keep(const format::Initializer &initializer, void *memory, const std::string &key,
                    const std::string &path, std::vector<std::string> &notes);
  Result<bool> loadCached(const std::string &path, const std::string &key, const format::Initializer &initializer,
                          std::vector<std::string> &notes);
  Status runCommand(const format::Command &command, const std::vector<uint8_t *> &scratch, uint32_t result,
                    uint8_t *resultMemory);

  const Program &program;
  const format::Variant &variant;
  const RankPlace place;
  Backend &backend;
  const std::vector<void *> &kernels;
  Weights &weights;
  const std::string cacheFolder;
  InitializerFacts done;
  /// Keys of results so far, by tensor: they are part of the keys of what reads them.
  std::vector<std::string> resultKeys;
  std::vector<Pages> mapped;
};

} // namespace moert

#endif // MOERT_CORE_INITIALIZERS_H
