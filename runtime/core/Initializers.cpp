// Execution and disk cache of initializers; see Initializers.h.
#include "runtime/core/Initializers.h"

#include "runtime/core/Checks.h"
#include "runtime/core/Extent.h"
#include "runtime/format/Checksum.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <sys/stat.h>

namespace moert {
namespace {

/// First page of a cache file; the result follows, so that it is aligned for every use. Of a result that is its source
/// the file is this page, and the digest one of `source`: the number of a tensor, and the byte it begins at.
struct CacheHeader {
  char magic[8];
  uint8_t key[32];
  uint64_t size;
  uint8_t payloadDigest[32];
  uint64_t source[2];
  uint8_t padding[4096 - 8 - 32 - 8 - 32 - 16];
};
static_assert(sizeof(CacheHeader) == 4096, "the result starts at a page");
constexpr char kMagic[9] = "MOEINIT1", kSourceMagic[9] = "MOESAME1";

/// How much of each source tensor goes into the key: the first, the last and two pages between.
constexpr uint64_t kSampleBytes = 4096;
constexpr uint64_t kSamples = 4;

void addToKey(format::Sha256 &hash, uint64_t value) { hash.update(&value, sizeof(value)); }

void addToKey(format::Sha256 &hash, const std::string &text) {
  addToKey(hash, uint64_t(text.size()));
  hash.update(text.data(), text.size());
}

/// Digest of the key's hex form, as it stands in a header.
format::Digest headerKey(const std::string &key) { return format::sha256(key.data(), key.size()); }

int64_t gridOf(const format::Grid &grid, int64_t units) {
  int64_t groups = units / grid.divisor() + (units % grid.divisor() != 0);
  if (grid.cap()) {
    groups = std::min(groups, grid.cap());
  }
  int64_t total;
  return __builtin_mul_overflow(groups, grid.factor(), &total) ? INT64_MAX : total;
}

} // namespace

template <typename Visit> void Initializers::forEachOperand(const format::Initializer &initializer, Visit visit) const {
  for (uint32_t c = 0; c < initializer.command_count(); ++c) {
    const format::Command &command = *variant.commands()->Get(initializer.first_command() + c);
    for (uint32_t o = 0; o < command.operand_count(); ++o) {
      visit(*variant.operands()->Get(command.first_operand() + o));
    }
  }
}

std::vector<Initializers::Place> Initializers::sourcesOf(const format::Initializer &initializer) const {
  const uint64_t bytes = program.root().tensors()->Get(initializer.result())->bytes();
  std::vector<Place> sources;
  forEachOperand(initializer, [&](const format::Operand &operand) {
    if (operand.kind() != format::OperandKind::WeightSpan || operand.index() == initializer.result() ||
        operand.value() != 0) {
      return;
    }
    const uint64_t all = program.root().tensors()->Get(operand.index())->bytes(), offset = operand.offset();
    const Place source{operand.index(), offset};
    if (offset <= all && all - offset >= bytes && std::find(sources.begin(), sources.end(), source) == sources.end()) {
      sources.push_back(source);
    }
  });
  return sources;
}

Status Initializers::useSource(const format::Initializer &initializer, const Place &source, void *computed) {
  const uint64_t bytes = program.root().tensors()->Get(initializer.result())->bytes();
  const auto tensor = uint32_t(source.tensor);
  ++done.unchanged;
  if (const uint8_t *there = weights.tensor(tensor)) {
    weights.setTensor(initializer.result(), there + source.offset);
    done.bytes -= bytes;
    if (computed) {
      backend.release(computed);
    }
    return {};
  }
  const void *address = computed;
  if (!address) {
    MOERT_ASSIGN(copied, backend.attach(weights.hostTensor(tensor) + source.offset, bytes, nameOf(initializer)));
    address = copied;
  }
  weights.setTensor(initializer.result(), address);
  return {};
}

/// Whether `source` has the bytes of a result. What was computed earlier is on a GPU only there.
Result<bool> Initializers::isSame(const Place &source, const void *result, uint64_t bytes) {
  const auto tensor = uint32_t(source.tensor);
  if (const uint8_t *onHost = weights.hostTensor(tensor)) {
    return memcmp(onHost + source.offset, result, bytes) == 0;
  }
  Pages copy;
  MOERT_ASSIGN(computed, onHost(weights.tensor(tensor) + source.offset, bytes, copy));
  return memcmp(computed, result, bytes) == 0;
}

/// `memory` as the host reads it: itself, or from a GPU a copy in `copy`.
Result<const void *> Initializers::onHost(const void *memory, uint64_t bytes, Pages &copy) {
  if (backend.usesHostMemory()) {
    return memory;
  }
  MOERT_ASSIGN(pages, Pages::allocate(bytes, "a computed weight on its way to the cache"));
  if (!backend.download(pages.data(), memory, bytes)) {
    return backend.failure().ok() ? error(Code::Deadline, "a computed weight was not copied from ", backend.place(),
                                          " within the deadline: raise --deadline")
                                  : backend.failure();
  }
  copy = std::move(pages);
  return static_cast<const void *>(copy.data());
}

std::string Initializers::nameOf(const format::Initializer &initializer) const {
  return concat("weight '", program.string(program.root().tensors()->Get(initializer.result())->name()), "'");
}

std::string Initializers::cacheKey(const format::Initializer &initializer) const {
  format::Sha256 hash;
  const format::Tensor &result = *program.root().tensors()->Get(initializer.result());
  addToKey(hash, initializer.key()->str());
  addToKey(hash, program.string(result.name()));
  addToKey(hash, result.bytes());
  hash.update(variant.blob_sha256()->data(), variant.blob_sha256()->size());
  auto addTensor = [&](uint32_t index) {
    const format::Tensor &tensor = *program.root().tensors()->Get(index);
    addToKey(hash, program.string(tensor.name()));
    addToKey(hash, tensor.bytes());
    if (tensor.file() == kNoFile) {
      addToKey(hash, resultKeys[index]);
      return;
    }
    addToKey(hash, program.root().files()->Get(tensor.file())->name()->str());
    addToKey(hash, tensor.offset());
    addToKey(hash, uint64_t(weights.modifiedNs(tensor.file())));
    for (uint64_t sample = 0; sample < kSamples; ++sample) {
      uint64_t piece = std::min(kSampleBytes, tensor.bytes());
      hash.update(weights.hostTensor(index) + (tensor.bytes() - piece) / (kSamples - 1) * sample, piece);
    }
  };
  bool isPerRank = false;
  forEachOperand(initializer, [&](const format::Operand &operand) {
    if (operand.kind() == format::OperandKind::WeightSpan && operand.index() != initializer.result()) {
      addTensor(operand.index());
      isPerRank |= operand.value() != 0;
    } else if (operand.kind() == format::OperandKind::WeightTable) {
      const format::WeightTable &table = *program.root().tables()->Get(operand.index());
      const uint32_t first = table.first() + uint32_t(place.rank) * uint32_t(operand.value());
      for (uint32_t i = 0; i < (operand.value() ? uint32_t(operand.value()) : table.count()); ++i) {
        addTensor(program.root().table_entries()->Get(first + i)->tensor());
      }
      isPerRank |= operand.value() != 0;
    }
    isPerRank |= operand.kind() == format::OperandKind::Size;
  });
  if (isPerRank) {
    addToKey(hash, uint64_t(place.rank));
    addToKey(hash, uint64_t(place.ranks));
  }
  return format::toHex(hash.finish());
}

/// True if the cache had it; false with a note if there was a file that is not whole.
Result<bool> Initializers::loadCached(const std::string &path, const std::string &key,
                                      const format::Initializer &initializer, std::vector<std::string> &notes) {
  auto file = File::open(path);
  if (!file.ok()) {
    return false;
  }
  const uint64_t bytes = program.root().tensors()->Get(initializer.result())->bytes();
  auto discard = [&](const char *reason) {
    notes.push_back(concat(path, ": ", reason, ", computed again"));
    return false;
  };
  if (file->size() != sizeof(CacheHeader) + bytes && file->size() != sizeof(CacheHeader)) {
    return discard("cache file has the wrong size");
  }
  auto pages = file->map();
  if (!pages.ok()) {
    return discard("cache file cannot be mapped");
  }
  CacheHeader header;
  memcpy(&header, pages->data(), sizeof(header));
  const bool isSource = memcmp(header.magic, kSourceMagic, 8) == 0;
  if ((file->size() == sizeof(CacheHeader)) != isSource) {
    return discard("cache file has the wrong size");
  }
  const uint8_t *payload = pages->data() + sizeof(header);
  format::Digest expectedKey = headerKey(key), digest = isSource ? format::sha256(header.source, sizeof(header.source))
                                                                 : format::sha256(payload, bytes);
  const std::vector<Place> sources = sourcesOf(initializer);
  const Place source{header.source[0], header.source[1]};
  if ((!isSource && memcmp(header.magic, kMagic, 8) != 0) || memcmp(header.key, expectedKey.data(), 32) != 0 ||
      header.size != bytes || memcmp(header.payloadDigest, digest.data(), 32) != 0 ||
      (isSource && std::find(sources.begin(), sources.end(), source) == sources.end())) {
    return discard("cache file is damaged");
  }
  if (isSource) {
    MOERT_TRY(useSource(initializer, source, nullptr));
    return true;
  }
  MOERT_ASSIGN(address, backend.attach(payload, bytes, nameOf(initializer)));
  weights.setTensor(initializer.result(), address);
  if (backend.usesHostMemory()) {
    mapped.push_back(std::move(*pages));
  }
  return true;
}

Status Initializers::runCommand(const format::Command &command, const std::vector<uint8_t *> &scratch, uint32_t result,
                                uint8_t *resultMemory) {
  std::vector<uint64_t> words;
  for (uint32_t o = 0; o < command.operand_count(); ++o) {
    const format::Operand &operand = *variant.operands()->Get(command.first_operand() + o);
    switch (operand.kind()) {
    case format::OperandKind::Slice:
      words.push_back(reinterpret_cast<uintptr_t>(scratch[operand.index()]) + operand.offset());
      break;
    case format::OperandKind::WeightSpan:
      words.push_back(
          reinterpret_cast<uintptr_t>(operand.index() == result ? resultMemory : weights.tensor(operand.index())) +
          operand.offset() + uint64_t(place.rank) * operand.value());
      break;
    case format::OperandKind::WeightTable: {
      MOERT_ASSIGN(table, weights.table(operand.index()));
      words.push_back(reinterpret_cast<uintptr_t>(table) + uint64_t(place.rank) * operand.value() * sizeof(uint64_t));
      break;
    }
    case format::OperandKind::Size: // the checks let through these two
      words.push_back(uint64_t(format::Dim(operand.value()) == format::Dim::Rank ? place.rank : place.ranks));
      break;
    case format::OperandKind::TensorMap:
    case format::OperandKind::Constant:
      words.push_back(operand.value());
      break;
    }
  }
  bool inTime = true;
  if (command.kind() == format::CommandKind::Launch) {
    const int64_t grid = gridOf(command.grid(), command.grid().units().fixed());
    if (grid > INT32_MAX) {
      return error(Code::Unsupported, "a launch of ", grid, " workgroups, at most ", INT32_MAX, " are run");
    }
    Launch launch{kernels[command.target()], words.data(), uint32_t(words.size()), grid};
    inTime = backend.launch(&launch, 1) && backend.synchronize();
  } else {
    auto bytes = uint64_t(variant.operands()->Get(command.first_operand())->extent().fixed());
    void *to = reinterpret_cast<void *>(words[0]);
    inTime = command.kind() == format::CommandKind::Copy
                 ? backend.copy(to, reinterpret_cast<const void *>(words[1]), bytes)
                 : backend.fill(to, uint8_t(command.value()), bytes);
    inTime = inTime && backend.synchronize();
  }
  return inTime                   ? Status()
         : backend.failure().ok() ? error(Code::Deadline, "not done within the deadline: is the machine overloaded?")
                                  : backend.failure();
}

Status Initializers::compute(const format::Initializer &initializer, uint8_t *result) {
  std::vector<uint8_t *> scratch;
  Status status;
  for (uint32_t b = 0; initializer.scratch() && b < initializer.scratch()->size() && status.ok(); ++b) {
    const format::Buffer &buffer = *initializer.scratch()->Get(b);
    auto memory = backend.allocate(uint64_t(buffer.size().fixed()), "scratch of an initializer", Contents::Undefined);
    if (memory.ok()) {
      scratch.push_back(static_cast<uint8_t *>(*memory));
    } else {
      status = memory.status();
    }
  }
  for (uint32_t c = 0; c < initializer.command_count() && status.ok(); ++c) {
    const uint32_t index = initializer.first_command() + c;
    status = runCommand(*variant.commands()->Get(index), scratch, initializer.result(), result);
    if (!status.ok()) {
      return error(status.code(), describeCommand(program.root(), variant, index), ": ", status.message());
    }
  }
  for (uint8_t *memory : scratch) {
    backend.release(memory);
  }
  return status;
}

std::vector<uint32_t> Initializers::tensorsReadBy(const format::Initializer &initializer) const {
  std::vector<uint32_t> sources;
  forEachOperand(initializer, [&](const format::Operand &operand) {
    if (operand.kind() == format::OperandKind::WeightSpan && operand.index() != initializer.result()) {
      sources.push_back(operand.index());
    } else if (operand.kind() == format::OperandKind::WeightTable) {
      const format::WeightTable &table = *program.root().tables()->Get(operand.index());
      for (uint32_t i = 0; i < table.count(); ++i) {
        sources.push_back(program.root().table_entries()->Get(table.first() + i)->tensor());
      }
    }
  });
  return sources;
}

/// Computes a result with what it reads brought to the machine for so long.
Status Initializers::computeWithSources(const format::Initializer &initializer, uint8_t *result) {
  std::vector<uint32_t> guests;
  Status status;
  for (uint32_t source : tensorsReadBy(initializer)) {
    auto brought = weights.bring(source);
    if (!brought.ok()) {
      status = brought.status();
      break;
    }
    if (*brought) {
      guests.push_back(source);
    }
  }
  status = status.ok() ? compute(initializer, result) : status;
  if (!guests.empty()) {
    weights.forgetTables();
  }
  for (uint32_t guest : guests) {
    weights.letGo(guest);
  }
  return status;
}

/// Makes `memory`, or the source that has the same bytes, the result, and writes the cache file; false with a note if
/// there is none (`path` is empty, or it cannot be written).
Result<bool> Initializers::keep(const format::Initializer &initializer, void *memory, const std::string &key,
                                const std::string &path, std::vector<std::string> &notes) {
  const uint64_t bytes = program.root().tensors()->Get(initializer.result())->bytes();
  Pages copy;
  MOERT_ASSIGN(result, onHost(memory, bytes, copy));
  CacheHeader header = {};
  memcpy(header.key, headerKey(key).data(), 32);
  header.size = bytes;
  bool isSource = false;
  for (const Place &source : sourcesOf(initializer)) {
    MOERT_ASSIGN(same, isSame(source, result, bytes));
    if (same) {
      isSource = true;
      header.source[0] = source.tensor;
      header.source[1] = source.offset;
      break;
    }
  }
  Status stored;
  if (!path.empty() && isSource) {
    memcpy(header.magic, kSourceMagic, 8);
    memcpy(header.payloadDigest, format::sha256(header.source, sizeof(header.source)).data(), 32);
    stored = writeFile(path, {{&header, sizeof(header)}});
  } else if (!path.empty()) {
    memcpy(header.magic, kMagic, 8);
    memcpy(header.payloadDigest, format::sha256(result, bytes).data(), 32);
    stored = writeFile(path, {{&header, sizeof(header)}, {result, bytes}});
  }
  if (isSource) {
    MOERT_TRY(useSource(initializer, {header.source[0], header.source[1]}, memory));
  } else {
    weights.setTensor(initializer.result(), memory);
  }
  if (path.empty() || !stored.ok()) {
    if (!stored.ok()) {
      notes.push_back(concat(stored.message(), "; computed weights stay in memory and are not cached"));
    }
    return false;
  }
  ++done.stored;
  return true;
}

Status Initializers::run(const Progress &progress, std::vector<std::string> &notes) {
  const uint32_t count = variant.initializers() ? variant.initializers()->size() : 0;
  done.count = count;
  resultKeys.resize(program.root().tensors() ? program.root().tensors()->size() : 0);
  if (count && mkdir(cacheFolder.c_str(), 0777) != 0 && errno != EEXIST) {
    notes.push_back(concat(cacheFolder, ": cannot be made (", strerror(errno), "); computed weights are not cached"));
  }
  bool cacheWorks = true;
  for (uint32_t i = 0; i < count; ++i) {
    const format::Initializer &initializer = *variant.initializers()->Get(i);
    const uint64_t bytes = program.root().tensors()->Get(initializer.result())->bytes();
    const std::string key = cacheKey(initializer);
    const std::string path = joinPath(cacheFolder, key + ".weight");
    resultKeys[initializer.result()] = key;
    done.bytes += bytes;
    progress("initialize weights", i, count);

    MOERT_ASSIGN(cached, loadCached(path, key, initializer, notes));
    if (cached) {
      ++done.cacheHits;
      continue;
    }
    MOERT_ASSIGN(memory, backend.allocate(bytes, nameOf(initializer), Contents::Undefined));
    MOERT_TRY(computeWithSources(initializer, static_cast<uint8_t *>(memory)));
    ++done.computed;
    MOERT_ASSIGN(stored, keep(initializer, memory, key, cacheWorks ? path : "", notes));
    cacheWorks &= stored;
    if (!stored || weights.tensor(initializer.result()) != memory || !backend.usesHostMemory()) {
      continue;
    }
    // From the file the pages can be dropped and shared; the memory is given back.
    MOERT_ASSIGN(mappedNow, loadCached(path, key, initializer, notes));
    if (mappedNow) {
      backend.release(memory);
    }
  }
  if (count) {
    progress("initialize weights", count, count);
  }
  return {};
}

} // namespace moert
