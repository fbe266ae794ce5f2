// Opening, checking and placing weights; see Weights.h.
#include "runtime/core/Weights.h"

#include "runtime/core/Checks.h"
#include "runtime/format/Checksum.h"

#include <algorithm>
#include <cstring>
#include <set>
#include <sys/mman.h>
#include <tuple>

namespace moert {
namespace {

/// Larger headers are refused; that of a checkpoint of 10^5 tensors has some 10 MB.
constexpr uint64_t kMaxHeaderBytes = uint64_t(100) << 20;
constexpr uint64_t kHashPiece = uint64_t(8) << 20;

/// The alignment that kernels may assume of an element: its size, at most 8.
uint64_t alignmentOf(format::DType dtype) {
  switch (dtype) {
  case format::DType::F64:
  case format::DType::I64:
  case format::DType::U64:
    return 8;
  case format::DType::F32:
  case format::DType::I32:
  case format::DType::U32:
    return 4;
  case format::DType::BF16:
  case format::DType::F16:
  case format::DType::I16:
  case format::DType::U16:
    return 2;
  default:
    return 1;
  }
}

constexpr uint64_t kNotUsed = UINT64_MAX;

/// Per tensor how many of its bytes the commands of `variant` (of its steps, or all) name for this rank; kNotUsed: it
/// is not named at all.
std::vector<uint64_t> tensorBytesUsed(const format::Program &program, const format::Variant &variant, RankPlace place,
                                      bool stepsOnly) {
  std::vector<uint64_t> used(program.tensors() ? program.tensors()->size() : 0, kNotUsed);
  std::set<std::pair<uint32_t, uint64_t>> tablesSeen;
  std::set<std::tuple<uint32_t, uint64_t, int64_t>> spansSeen;
  auto useWhole = [&](uint32_t tensor) { used[tensor] = program.tensors()->Get(tensor)->bytes(); };
  auto markOperands = [&](const format::Command &command) {
    for (uint32_t o = 0; o < command.operand_count(); ++o) {
      const format::Operand &given = *variant.operands()->Get(command.first_operand() + o);
      const format::Operand operand =
          given.kind() == format::OperandKind::TensorMap ? weightOf(variant, given.index()) : given;
      if (operand.kind() == format::OperandKind::WeightSpan) {
        const int64_t bytes = operand.extent().fixed();
        if (operand.value() == 0) {
          useWhole(operand.index());
        } else if (spansSeen.insert({operand.index(), operand.offset(), bytes}).second) {
          uint64_t &sum = used[operand.index()];
          sum =
              std::min((sum == kNotUsed ? 0 : sum) + uint64_t(bytes), program.tensors()->Get(operand.index())->bytes());
        }
      } else if (operand.kind() == format::OperandKind::WeightTable &&
                 tablesSeen.insert({operand.index(), operand.value()}).second) {
        const format::WeightTable &table = *program.tables()->Get(operand.index());
        const uint32_t first = table.first() + uint32_t(place.rank) * uint32_t(operand.value());
        const uint32_t count = operand.value() ? uint32_t(operand.value()) : table.count();
        for (uint32_t i = 0; i < count; ++i) {
          useWhole(program.table_entries()->Get(first + i)->tensor());
        }
      }
    }
  };
  auto markCommands = [&](uint32_t first, uint32_t count) {
    for (uint32_t c = 0; c < count; ++c) {
      markOperands(*variant.commands()->Get(first + c));
    }
  };
  for (uint32_t e = 0; e < entryCount(variant); ++e) {
    for (const format::StepVariant *step : *entryOf(variant, e).steps) {
      markCommands(step->first_command(), step->command_count());
    }
  }
  for (uint32_t i = 0; !stepsOnly && variant.initializers() && i < variant.initializers()->size(); ++i) {
    markCommands(variant.initializers()->Get(i)->first_command(), variant.initializers()->Get(i)->command_count());
  }
  return used;
}

} // namespace

Status Weights::checkIdentity(const File &file, const format::File &expected, std::vector<std::string> &notes) {
  const char hint[] = ": this is not the checkpoint that the package was compiled from; pass the right directory with "
                      "--weights, or compile the package again";
  if (file.size() != expected.size()) {
    return error(Code::Corrupt, file.path(), ": has ", file.size(), " bytes, the package was compiled with ",
                 expected.size(), hint);
  }
  uint64_t headerSize = expected.header_bytes();
  if (headerSize == 0) {
    // A package of format 1.2 or older: the length that a safetensors header gives itself.
    if (file.size() >= 8) {
      MOERT_TRY(file.read(&headerSize, 8, 0));
    }
    if (file.size() < 8 || headerSize > file.size() - 8) {
      return error(Code::Corrupt, file.path(), ": has a header of ", headerSize, " bytes in a file of ", file.size(),
                   hint);
    }
    headerSize += 8;
  }
  if (headerSize > kMaxHeaderBytes) {
    return error(Code::Corrupt, file.path(), ": has a header of ", headerSize, " bytes, which must be at most ",
                 kMaxHeaderBytes, hint);
  }
  std::vector<uint8_t> header(static_cast<size_t>(headerSize));
  MOERT_TRY(file.read(header.data(), header.size(), 0));
  format::Digest actual = format::sha256(header.data(), header.size());
  if (memcmp(actual.data(), expected.header_sha256()->data(), actual.size()) != 0) {
    return error(Code::Corrupt, file.path(), ": its header has SHA-256 ", format::toHex(actual),
                 ", the package was compiled with ",
                 format::toHex(expected.header_sha256()->data(), expected.header_sha256()->size()), hint);
  }
  if (!expected.in_package() && file.modifiedNs() != expected.mtime_ns()) {
    notes.push_back(concat(file.path(), ": was written at another time than when the package was compiled (size and "
                                        "header are the same); its weights may be other ones"));
  }
  return {};
}

/// Hints only: large pages where the file system has them, and reading ahead what fits in memory anyway.
void Weights::adviseMapping() {
  uint64_t total = 0;
  for (const Pages &pages : mapped) {
    total += pages.size();
  }
  for (const Pages &pages : mapped) {
    if (pages) {
      madvise(pages.data(), pages.size(), MADV_HUGEPAGE);
      if (total < physicalBytes() / 2) {
        madvise(pages.data(), pages.size(), MADV_WILLNEED);
      }
    }
  }
}

Status Weights::hashFiles(const Program &program, const Progress &progress) {
  uint64_t total = 0, done = 0;
  for (const File &file : files) {
    total += file.size();
  }
  for (size_t f = 0; f < files.size(); ++f) {
    format::Sha256 hash;
    for (uint64_t at = 0; at < files[f].size(); at += kHashPiece) {
      uint64_t piece = std::min(kHashPiece, files[f].size() - at);
      hash.update(mapped[f].data() + at, piece);
      done += piece;
      progress("verify weights", done, total);
    }
    format::Digest actual = hash.finish();
    digests.push_back(format::toHex(actual));
    const auto *expected = program.root().files()->Get(uint32_t(f))->sha256();
    if (expected && memcmp(actual.data(), expected->data(), actual.size()) != 0) {
      return error(Code::Corrupt, files[f].path(), ": has SHA-256 ", digests.back(), ", the package recorded ",
                   format::toHex(expected->data(), expected->size()),
                   ": the weights were changed or damaged; fetch the checkpoint again");
    }
  }
  return {};
}

std::string Weights::nameOf(uint32_t tensor) const {
  return concat("weight '", root->strings()->Get(root->tensors()->Get(tensor)->name())->c_str(), "'");
}

Status Weights::placeTensors(const std::vector<uint64_t> &bytesUsed, const std::vector<uint64_t> &bytesOfSteps,
                             const Progress &progress, std::vector<std::string> &notes) {
  uint32_t copiedTensors = 0;
  uint64_t toMove = 0, moved = 0;
  for (uint32_t t = 0; t < bytesUsed.size(); ++t) {
    const format::Tensor &tensor = *root->tensors()->Get(t);
    if (bytesUsed[t] == kNotUsed) {
      continue;
    }
    used += bytesUsed[t];
    if (tensor.file() == kNoFile || tensor.bytes() == 0) {
      continue;
    }
    const uint8_t *source = mapped[tensor.file()].data() + tensor.offset();
    if (backend->usesHostMemory() && tensor.offset() % alignmentOf(tensor.dtype()) != 0) {
      MOERT_ASSIGN(copy, Pages::allocate(tensor.bytes(),
                                         concat("a copy of ", nameOf(t), ", which is not aligned in its file,")));
      memcpy(copy.data(), source, tensor.bytes());
      source = copy.data();
      copies.push_back(std::move(copy));
      copied += tensor.bytes();
      ++copiedTensors;
    }
    hostAddresses[t] = source;
    toMove += bytesOfSteps[t] == kNotUsed ? 0 : tensor.bytes();
  }
  if (copiedTensors) {
    notes.push_back(concat(copiedTensors, " tensors (", copied,
                           " bytes) are not aligned in their files and were copied "
                           "to memory; a checkpoint saved by a current safetensors library avoids this"));
  }
  const bool moves = !backend->usesHostMemory();
  if (const uint64_t free = moves ? backend->availableBytes() : 0; moves && toMove > free) {
    return error(
        Code::OutOfMemory, "the weights need ", toMove, " bytes (", toMove >> 20, " MiB) on ", backend->place(),
        ", which has ", free, " (", free >> 20,
        " MiB) free beside buffers and KV cache: lower --sequences or --context, or use a GPU with more memory");
  }
  auto isPlaced = [&](uint32_t t) { return hostAddresses[t] && (!moves || bytesOfSteps[t] != kNotUsed); };
  std::vector<uint64_t> sizes;
  for (uint32_t t = 0; t < bytesUsed.size(); ++t) {
    if (isPlaced(t)) {
      sizes.push_back(root->tensors()->Get(t)->bytes());
    }
  }
  MOERT_TRY(backend->reserve(sizes, "the pool of all weights"));
  for (uint32_t t = 0; t < bytesUsed.size(); ++t) {
    if (isPlaced(t)) {
      MOERT_TRY(bring(t).status());
      moved += root->tensors()->Get(t)->bytes();
      if (moves) {
        progress("upload weights", moved, toMove);
      }
    }
  }
  return {};
}

Result<bool> Weights::bring(uint32_t index) {
  if (addresses[index] || !hostAddresses[index]) {
    return false;
  }
  MOERT_ASSIGN(address, backend->attach(hostAddresses[index], root->tensors()->Get(index)->bytes(), nameOf(index)));
  setTensor(index, address);
  return true;
}

void Weights::letGo(uint32_t index) {
  if (!backend->usesHostMemory()) {
    backend->release(const_cast<uint8_t *>(addresses[index]));
  }
  setTensor(index, nullptr);
}

Status Weights::open(const Program &program, size_t variant, RankPlace place, const std::string &folder, bool verify,
                     Backend &given, const Progress &progress, std::vector<std::string> &notes) {
  root = &program.root();
  backend = &given;
  const bool isHint = folder.empty();
  directory = isHint && root->checkpoint_hint() ? root->checkpoint_hint()->str() : folder;
  checkpointPath = directory;
  addresses.assign(root->tensors() ? root->tensors()->size() : 0, nullptr);
  hostAddresses = addresses;
  tables.resize(root->tables() ? root->tables()->size() : 0);
  const uint32_t count = root->files() ? root->files()->size() : 0;
  bool needsCheckpoint = false;
  for (uint32_t f = 0; f < count; ++f) {
    needsCheckpoint |= !root->files()->Get(f)->in_package();
  }
  if (needsCheckpoint && directory.empty()) {
    return error(Code::NotFound, program.package(), ": does not record where its weights are: pass --weights DIR");
  }
  for (uint32_t f = 0; f < count; ++f) {
    const format::File &expected = *root->files()->Get(f);
    auto file = File::open(joinPath(expected.in_package() ? program.package() : directory, expected.name()->str()));
    if (!file.ok() && expected.in_package()) {
      return error(file.status().code(), file.status().message(), "; it is a part of the package: compile it again");
    }
    if (!file.ok()) {
      return error(file.status().code(), file.status().message(),
                   isHint
                       ? "; the package looks for its weights where they were when it was compiled: pass --weights DIR "
                         "with their directory now"
                       : "; pass the checkpoint's directory with --weights");
    }
    MOERT_TRY(checkIdentity(*file, expected, notes));
    MOERT_ASSIGN(pages, file->map());
    if (!expected.in_package() && pages.size() >= 4 && std::memcmp(pages.data(), "GGUF", 4) == 0) {
      checkpointPath = joinPath(directory, expected.name()->str());
    }
    files.push_back(std::move(*file));
    mapped.push_back(std::move(pages));
    progress("map weights", f + 1, count);
  }
  adviseMapping();
  if (verify) {
    MOERT_TRY(hashFiles(program, progress));
  }
  const format::Variant &chosen = program.variant(variant);
  return placeTensors(tensorBytesUsed(*root, chosen, place, /*stepsOnly=*/false),
                      tensorBytesUsed(*root, chosen, place, /*stepsOnly=*/true), progress, notes);
}

Result<const void *> Weights::table(uint32_t index) {
  Table &made = tables[index];
  if (!made.address) {
    const format::WeightTable &table = *root->tables()->Get(index);
    made.pointers.clear();
    for (uint32_t i = 0; i < table.count(); ++i) {
      const format::TableEntry &entry = *root->table_entries()->Get(table.first() + i);
      made.pointers.push_back(reinterpret_cast<uintptr_t>(tensor(entry.tensor())) + entry.offset());
    }
    MOERT_ASSIGN(address, backend->attach(made.pointers.data(), made.pointers.size() * sizeof(uint64_t),
                                          concat("the addresses of weight table '",
                                                 root->strings()->Get(table.name())->c_str(), "'")));
    made.address = address;
  }
  return made.address;
}

Result<const void *> Weights::tensorMaps(const format::Variant &variant, uint32_t index, RankPlace place) {
  maps.resize(variant.tensor_maps()->size());
  if (maps[index]) {
    return maps[index];
  }
  const format::TensorMap &recipe = *variant.tensor_maps()->Get(index);
  std::vector<TensorMapBytes> made;
  auto add = [&](uint32_t of, uint64_t offset) {
    made.emplace_back();
    return backend->encodeTensorMap(made.back(), tensor(of) + offset, root->tensors()->Get(of)->dtype(), recipe);
  };
  if (!recipe.table()) {
    MOERT_TRY(add(recipe.index(), recipe.offset() + uint64_t(place.rank) * recipe.per_rank()));
  } else {
    const format::WeightTable &table = *root->tables()->Get(recipe.index());
    const uint32_t own = uint32_t(recipe.per_rank()), count = own ? own : table.count();
    for (uint32_t i = 0; i < count; ++i) {
      const format::TableEntry &entry = *root->table_entries()->Get(table.first() + uint32_t(place.rank) * own + i);
      MOERT_TRY(add(entry.tensor(), entry.offset()));
    }
  }
  const uint32_t name =
      recipe.table() ? root->tables()->Get(recipe.index())->name() : root->tensors()->Get(recipe.index())->name();
  MOERT_ASSIGN(address, backend->attach(made.data(), made.size() * sizeof(TensorMapBytes),
                                        concat("the tensor maps of '", root->strings()->Get(name)->c_str(), "'")));
  maps[index] = address;
  return address;
}

void Weights::forgetTables() {
  for (Table &made : tables) {
    if (made.address && !backend->usesHostMemory()) {
      backend->release(const_cast<void *>(made.address));
    }
    made.address = nullptr;
  }
}

} // namespace moert
