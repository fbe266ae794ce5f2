// Memory of a session: sizes, allocation, and on a GPU the stand-ins for memory that is the caller's.
#include "runtime/core/Session.h"

#include <algorithm>
#include <cstring>

namespace moert {
namespace {

/// Of how many T and M the emulator keeps memory that is theirs alone.
constexpr size_t kMaxSeparated = 16;

} // namespace

/// Whether a buffer is memory that the caller hands over at each step.
bool Session::isCallers(uint32_t b) const {
  return variant->buffers()->Get(b)->kind() == format::BufferKind::Output || isArgument[b];
}

/// The bytes of every buffer that is allocated, and whether they can be had.
Status Session::sizeBuffers() {
  const format::Program &root = program->root();
  const uint32_t count = variant->buffers() ? variant->buffers()->size() : 0;
  bufferBytes.assign(count, 0);
  isArgument.assign(count, false);
  for (uint32_t e = 1; e < moert::entryCount(*variant); ++e) {
    const auto *inputs = entryOf(*variant, e).inputs;
    for (uint32_t i = 0; inputs && i < inputs->size(); ++i) {
      isArgument[inputs->Get(i)] = true;
    }
  }
  uint64_t total = 0;
  for (uint32_t b = 0; b < count; ++b) {
    const format::Buffer &buffer = *variant->buffers()->Get(b);
    if (isCallers(b) && backend->usesHostMemory()) {
      continue;
    }
    // The caller's memory holds the step's own T and M, which this session bounds.
    const int64_t tokens = isCallers(b) ? maxTokens : root.max_tokens();
    int64_t bytes;
    if (!evaluate(buffer.size(), {tokens, tokens, boundSequences, boundContext}, bytes) ||
        __builtin_add_overflow(total, uint64_t(bytes), &total)) {
      return error(Code::OutOfMemory, "buffer '", program->string(buffer.name()),
                   "' would need more than 2^63 bytes with ", boundSequences, " sequences of ", boundContext,
                   " tokens: lower --sequences or --context");
    }
    bufferBytes[b] = uint64_t(bytes);
  }
  const uint64_t available = backend->availableBytes();
  MOERT_TRY(backend->failure());
  if (total > available) {
    return error(Code::OutOfMemory, boundSequences, " sequences of ", boundContext, " tokens need ", total, " bytes (",
                 total >> 20, " MiB) of buffers and KV cache, ", deviceText, " has ", available,
                 ": lower --sequences or --context");
  }
  return {};
}

Status Session::allocateBuffers() {
  MOERT_TRY(sizeBuffers());
  buffers.assign(bufferBytes.size(), nullptr);
  standIns.assign(bufferBytes.size(), nullptr);
  for (uint32_t b = 0; b < buffers.size(); ++b) {
    const format::Buffer &buffer = *variant->buffers()->Get(b);
    const std::string name = program->string(buffer.name()), what = concat("buffer '", name, "'");
    if (isCallers(b) && backend->usesHostMemory()) {
      continue;
    }
    if (buffer.kind() == format::BufferKind::Constant) {
      MOERT_ASSIGN(address, backend->attach(program->root().constants()->data() + buffer.constant_offset(),
                                            bufferBytes[b], what));
      buffers[b] = const_cast<uint8_t *>(static_cast<const uint8_t *>(address));
      continue;
    }
    if (backend->wantsSeparateBuffers() && buffer.kind() != format::BufferKind::State) {
      // Each step brings its own; see separateBuffers.
      arenaBytes += buffer.kind() == format::BufferKind::Arena ? bufferBytes[b] : 0;
      if (buffer.kind() == format::BufferKind::Input && !isCallers(b)) {
        MOERT_TRY(allocateInput(b, name));
      }
      continue;
    }
    const bool isState = buffer.kind() == format::BufferKind::State;
    MOERT_ASSIGN(memory, backend->allocate(bufferBytes[b], what, isState ? Contents::Zero : Contents::Undefined));
    (isCallers(b) ? standIns : buffers)[b] = static_cast<uint8_t *>(memory);
    if (buffer.kind() == format::BufferKind::Arena) {
      arenaBytes += bufferBytes[b];
    } else if (isState) {
      stateBytes += bufferBytes[b];
    } else if (!isCallers(b)) {
      MOERT_TRY(allocateInput(b, name));
    }
  }
  return backend->usesHostMemory() ? Status() : stageArguments();
}

/// Where the host fills an input of the step: in the buffer itself, or in pinned memory that a step copies from.
Status Session::allocateInput(uint32_t b, const std::string &name) {
  auto *words = reinterpret_cast<int32_t *>(buffers[b]);
  if (!backend->usesHostMemory()) {
    MOERT_ASSIGN(staging, backend->allocateStaging(bufferBytes[b], concat("input '", name, "'")));
    words = static_cast<int32_t *>(staging);
    const int64_t word = sizeof(int32_t);
    uploads.push_back({b, buffers[b], words, name == "runs" ? word * (boundSequences + 1) : 0,
                       name == "runs" || name == "rows" ? 0 : word, name == "rows" ? word : 0});
  }
  (name == "tokens" ? tokensInput
   : name == "seq"  ? seqInput
   : name == "pos"  ? posInput
   : name == "runs" ? runsInput
                    : rowsInput) = words;
  return {};
}

/// Gives every value of a step memory of its own, of just the size that it has at this T and M, and undefined. Kept for
/// steps of the same plan, T and M, since graphs hold addresses.
Status Session::separateBuffers(Entry &entry, StepPlan &plan, int64_t tokens, int64_t rows) {
  MOERT_ASSIGN(separate, separateFor(entry, plan, tokens, rows));
  for (size_t r = 0; r < separate->regions.size(); ++r) {
    backend->forget(separate->regions[r], plan.regionBytes(r, tokens, rows));
  }
  for (size_t a = 0; a < entry.arguments.size(); ++a) {
    backend->forget(separate->standIns[a],
                    uint64_t(entry.arguments[a].per_token * tokens + entry.arguments[a].per_row * rows));
  }
  plan.placeRegions(separate->regions);
  entry.standIns = separate->standIns;
  for (Upload &upload : uploads) {
    upload.to = nullptr;
    for (size_t r = 0; r < separate->regions.size(); ++r) {
      if (plan.regionBuffer(r) == upload.buffer) {
        upload.to = separate->regions[r];
      }
    }
  }
  return {};
}

/// The memory of `plan` at T and M, known or new.
Result<Session::Separate *> Session::separateFor(const Entry &entry, const StepPlan &plan, int64_t tokens,
                                                 int64_t rows) {
  for (Separate &known : separated) {
    if (known.plan == &plan && known.tokens == tokens && known.rows == rows) {
      return &known;
    }
  }
  if (separated.size() == kMaxSeparated) {
    graphs.clear(*backend);
    for (const Separate &old : separated) {
      for (const std::vector<void *> *memory : {&old.regions, &old.standIns}) {
        for (void *address : *memory) {
          backend->release(address);
        }
      }
    }
    separated.clear();
  }
  Separate fresh = {&plan, tokens, rows, {}, {}};
  for (size_t r = 0; r < plan.regionCount(); ++r) {
    const char *name = program->string(variant->buffers()->Get(plan.regionBuffer(r))->name());
    MOERT_ASSIGN(memory, backend->allocate(plan.regionBytes(r, tokens, rows), concat("a value in buffer '", name, "'"),
                                           Contents::Undefined));
    fresh.regions.push_back(memory);
  }
  for (const moert_argument &argument : entry.arguments) {
    MOERT_ASSIGN(memory, backend->allocate(uint64_t(argument.per_token * tokens + argument.per_row * rows),
                                           concat("argument '", argument.name, "'"), Contents::Undefined));
    fresh.standIns.push_back(memory);
  }
  separated.push_back(std::move(fresh));
  return &separated.back();
}

/// Pinned memory that holds the inputs of any one entry.
Status Session::stageArguments() {
  uint64_t most = 0;
  for (uint32_t e = 1; e < moert::entryCount(*variant); ++e) {
    const auto *inputs = entryOf(*variant, e).inputs;
    uint64_t bytes = 0;
    for (uint32_t i = 0; inputs && i < inputs->size(); ++i) {
      bytes += bufferBytes[inputs->Get(i)];
    }
    most = std::max(most, bytes);
  }
  if (most) {
    MOERT_ASSIGN(staging, backend->allocateStaging(most, "the arguments of an entry"));
    argumentStaging = static_cast<uint8_t *>(staging);
  }
  return {};
}

} // namespace moert
