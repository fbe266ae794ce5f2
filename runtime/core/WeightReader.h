//===- WeightReader.h - The tensors of a program, without a session *- C++ -*-===//
//
// For tools that want weights and no steps: an export of a fused model, say. A tensor of the checkpoint is read where
// it lies; one that is computed is computed when it is asked for, with what it is computed from, and lives until the
// next call. Nothing is cached on disk, no arena or state is allocated: so a model of any size needs the memory of the
// computed tensor at hand. Runs on the CPU only.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_CORE_WEIGHTREADER_H
#define MOERT_CORE_WEIGHTREADER_H

#include "runtime/core/Initializers.h"

#include <unordered_map>

namespace moert {

class WeightReader {
public:
  /// Of the options, those about weights, variant, threads, deadline and progress are used.
  static Result<std::unique_ptr<WeightReader>> open(std::shared_ptr<Program> program,
                                                    const moert_session_options &options);
  WeightReader(const WeightReader &) = delete;
  ~WeightReader() { release(); }

  /// The bytes of the tensor called `name`, valid until the next call.
  Status read(const std::string &name, const void **data, size_t *size);

  /// Whether everything that kernels use may be freed; waits for stragglers up to the deadline.
  bool canBeFreed() { return !isStuck || backend->settle(); }

private:
  WeightReader() = default;
  /// Computes the tensor `index`, those that it reads first.
  Status compute(uint32_t index);
  /// Frees what was computed.
  void release();

  std::shared_ptr<Program> program;
  size_t variantIndex = 0;
  std::unique_ptr<Backend> backend;
  std::vector<void *> kernels;
  Weights weights;
  std::unique_ptr<Initializers> initializers;
  std::vector<std::string> notes;
  std::unordered_map<std::string, uint32_t> tensorOfName;
  /// By tensor: the initializer that writes it.
  std::unordered_map<uint32_t, const format::Initializer *> initializerOf;
  /// Tensors that are computed now, and their memory.
  std::vector<std::pair<uint32_t, void *>> computed;
  bool isStuck = false;
};

} // namespace moert

#endif // MOERT_CORE_WEIGHTREADER_H
