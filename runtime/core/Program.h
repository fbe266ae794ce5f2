//===- Program.h - A package that has passed every check ---------*- C++ -*-===//
//
// Stage `load`: reads the program file into private memory, checks its seal, its format, its tables and the digests of
// the package's other files, and keeps the kernels of every variant ready. Touches no weight and runs no kernel.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_CORE_PROGRAM_H
#define MOERT_CORE_PROGRAM_H

#include "runtime/core/File.h"
#include "runtime/core/Status.h"
#include "runtime/format/Checksum.h"
#include "runtime/format/program_generated.h"

#include <memory>
#include <string>
#include <vector>

namespace moert {

/// Name of the program file inside a package.
constexpr const char *kProgramFileName = "program.moep";
/// The largest program file and kernel blob that are read.
constexpr uint64_t kMaxProgramBytes = uint64_t(1) << 30;

/// Verifies a FlatBuffer (without its seal) and everything that can be said of it without other files.
/// `bytes` must be aligned to 64 and stay while `program` is used.
Status checkProgramBytes(const uint8_t *bytes, size_t size, const format::Program *&program);

/// An entry of a variant. Entry 0 is "step": the variant's own steps, which write the logits.
struct EntryView {
  const char *name;
  const flatbuffers::Vector<const format::StepVariant *> *steps;
  const flatbuffers::Vector<uint32_t> *inputs, *outputs; ///< buffers; null: none, or the step's
};
uint32_t entryCount(const format::Variant &variant);
EntryView entryOf(const format::Variant &variant, uint32_t index);

/// Whether a variant is for CPUs; the others are for GPUs.
bool isForCpu(const format::Variant &variant);
/// The kinds of collectives that a variant has, each once.
std::vector<format::CollectiveKind> collectiveKinds(const format::Variant &variant);

/// No buffer.
constexpr uint32_t kNoBuffer = 0xffffffffu;
/// The state `picks`, where some variants leave the likeliest token of each row of logits (i32; -1 - i where logit i is
/// the first that is not a number), by launches that do nothing else and are left out where nobody wants it; kNoBuffer:
/// there is none.
uint32_t picksBuffer(const format::Program &program, const format::Variant &variant);

/// The compute capability that a variant for GPUs is made for, 80 of "cuda:sm_80"; 0: its target is no such name.
/// `exact`: it runs on no other, as "cuda:sm_90a".
uint32_t gpuCapability(const format::Variant &variant, bool &exact);

/// Whether machine code for compute capability `made` runs on a card of `card`: that of the same major number, from its
/// minor number on; made for exactly that capability: on no other.
bool runsMachineCode(uint32_t made, bool exact, uint32_t card);

/// Which rank of how many something is for.
struct RankPlace {
  int rank = 0, ranks = 1;
};

class Program {
public:
  static Result<std::shared_ptr<Program>> load(const std::string &package);

  const format::Program &root() const { return *program; }
  const std::string &package() const { return folder; }
  /// SHA-256 of the program file.
  const format::Digest &digest() const { return seal; }
  const format::Variant &variant(size_t index) const { return *program->variants()->Get(uint32_t(index)); }
  size_t variantCount() const { return program->variants() ? program->variants()->size() : 0; }
  /// The kernels of a variant: checked, of CPUs; PTX, of GPUs.
  const uint8_t *blob(size_t variant) const { return blobs[variant].memory.data(); }
  uint64_t blobSize(size_t variant) const { return blobs[variant].size; }
  std::string blobPath(size_t index) const { return joinPath(folder, variant(index).blob()->str()); }
  /// Machine code of the same kernels for a GPU: the file of the package beside the PTX that ends in .cubin. Empty: the
  /// package has none.
  std::string machineCodePath(size_t index) const;
  /// string `index`, which the checks have found to exist.
  const char *string(uint32_t index) const { return program->strings()->Get(index)->c_str(); }

private:
  struct Blob {
    Pages memory;
    uint64_t size = 0;
  };

  std::string folder;
  format::Digest seal = {};
  Pages memory;
  const format::Program *program = nullptr;
  std::vector<Blob> blobs;
};

} // namespace moert

#endif // MOERT_CORE_PROGRAM_H
