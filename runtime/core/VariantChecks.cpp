// Bounds and index checks of one variant; what variants share is in ProgramChecks.cpp, hazards are in Hazards.cpp.
#include "runtime/core/CheckTexts.h"
#include "runtime/core/Checks.h"
#include "runtime/core/Extent.h"
#include "runtime/core/Program.h"

#include <cstring>
#include <set>

namespace moert {
namespace {

using format::BufferKind;
using format::CommandKind;
using format::OperandKind;

/// A command or an operand of one, put into words only when there is something to say about it.
struct Place {
  const format::Program &program;
  const format::Variant &variant;
  uint32_t command;
  int64_t operand = -1;

  operator std::string() const {
    std::string text = describeCommand(program, variant, command);
    return operand < 0 ? text : concat(text, ": operand ", operand);
  }
};

/// How many commands and operands the steps and initializers of a variant may name in all, repeated ones included.
/// Ranges may overlap, so that without a bound a small file could ask for a very long check.
constexpr uint64_t kMaxChecks = 1u << 24;
/// Operands of one command.
constexpr uint32_t kMaxOperands = 1024;
/// Threads of a workgroup on any GPU, and shared memory of one on the GPU that has most.
constexpr uint32_t kMaxGpuThreads = 1024;
constexpr uint32_t kMaxGpuSharedBytes = 227u << 10;

/// One variant under check.
class VariantChecker {
public:
  VariantChecker(const format::Program &program, const format::Variant &variant)
      : program(program), variant(variant), writers(sizeOf(program.tensors()), kNotWritten),
        readableTables(sizeOf(program.tables())) {}

  Status run();

private:
  static constexpr uint32_t kNotWritten = ~0u;

  Status checkBuffer(const format::Buffer &buffer, const std::string &where, bool inInitializer, bool isArgument);
  Status checkKernels();
  Status checkInitializers();
  Status checkEntry(uint32_t index);
  Status checkSteps(uint32_t entry);
  Status checkCommand(uint32_t index, TokenRange range, const format::Initializer *initializer, uint32_t position);
  Status checkTensorMap(uint32_t index, const Place &where, TokenRange range, uint32_t position);
  Status checkOperand(const format::Operand &operand, const Place &where, TokenRange range,
                      const format::Initializer *initializer, uint32_t position);
  Status checkTensorReadable(uint32_t tensor, const Place &where, uint32_t position);
  Status checkTransfer(const format::Command &command, const Place &where);
  Status checkCollective(const format::Command &command, const Place &where);
  Status checkExchange(const format::Command &command, const Place &where);
  Status checkPick(const format::Command &command, const Place &where);

  const format::Operand &operand(const format::Command &command, uint32_t i) const {
    return *variant.operands()->Get(command.first_operand() + i);
  }

  const format::Program &program;
  const format::Variant &variant;
  /// For each tensor without a file, the position of the initializer that writes it.
  std::vector<uint32_t> writers;
  /// Tables whose tensors are known to be readable; once they are, they stay so.
  std::vector<bool> readableTables;
  /// Per buffer the entry whose argument it is; 0: of none.
  std::vector<uint32_t> owners;
  /// The state `picks`, and the launches of a step that write it.
  uint32_t picks = kNoBuffer, picking = 0;
  /// The entry whose steps are looked at, and whether it may write the logits.
  uint32_t currentEntry = 0;
  bool writesLogits = true;
  uint64_t checks = 0;
};

Status VariantChecker::checkBuffer(const format::Buffer &buffer, const std::string &where, bool inInitializer,
                                   bool isArgument) {
  const format::Extent &size = buffer.size();
  if (uint8_t(buffer.kind()) > uint8_t(BufferKind::MAX)) {
    return corrupt(where, " has kind ", int(buffer.kind()), ", known are 0 to ", int(BufferKind::MAX));
  }
  if (buffer.name() >= sizeOf(program.strings())) {
    return corrupt(where, " has name index ", buffer.name(), " of ", sizeOf(program.strings()), " strings");
  }
  if (buffer.alignment() == 0 || (buffer.alignment() & (buffer.alignment() - 1)) || buffer.alignment() > (2u << 20)) {
    return corrupt(where, " has alignment ", buffer.alignment(), ", which is not a power of two up to 2 MiB");
  }
  int64_t bytes;
  if (!isNonNegative(size) || !evaluate(size, {program.max_tokens(), program.max_tokens(), 1, 1}, bytes)) {
    return corrupt(where, " has size ", describeExtent(size),
                   ": negative or beyond 64 bits at T = ", program.max_tokens());
  }
  if (inInitializer && (buffer.kind() != BufferKind::Arena || !isFixed(size))) {
    return corrupt(where, " must be scratch of a fixed size, its size is ", describeExtent(size));
  }
  std::string name = nameOrDash(program, buffer.name());
  auto atLeast = [&](int64_t fixed, int64_t token, int64_t row, int64_t sequence) -> Status {
    if (size.fixed() < fixed || size.per_token() < token || size.per_row() < row || size.per_sequence() < sequence) {
      return corrupt(where, ": input '", name, "' has size ", describeExtent(size), ", which does not hold ", fixed,
                     " + ", token, "*T + ", row, "*M + ", sequence, "*B bytes");
    }
    return {};
  };
  switch (buffer.kind()) {
  case BufferKind::Constant:
    if (!isFixed(size) || buffer.constant_offset() > sizeOf(program.constants()) ||
        uint64_t(size.fixed()) > sizeOf(program.constants()) - buffer.constant_offset()) {
      return corrupt(where, ": constant bytes ", buffer.constant_offset(), " + ", describeExtent(size),
                     " are not inside the ", sizeOf(program.constants()), " bytes of constants");
    }
    if (buffer.alignment() > 64 || buffer.constant_offset() % buffer.alignment()) {
      return corrupt(where, ": constant offset ", buffer.constant_offset(), " is not aligned to ", buffer.alignment(),
                     " (at most 64)");
    }
    return {};
  case BufferKind::Output:
    if (isArgument) {
      return {};
    }
    if (name != "logits") {
      return corrupt(where, ": output '", name, "' is neither 'logits' nor a result of an entry");
    }
    if (size.fixed() || size.per_token() || dependsOnSession(size) || size.per_row() != 4 * program.vocab()) {
      return corrupt(where, ": output 'logits' has size ", describeExtent(size), ", must be ", 4 * program.vocab(),
                     "*M (f32 [M, V], V = ", program.vocab(), ")");
    }
    return {};
  case BufferKind::Input:
    if (isArgument) {
      return {};
    }
    if (name == "tokens" || name == "seq" || name == "pos") {
      return atLeast(0, 4, 0, 0);
    }
    if (name == "runs") {
      return atLeast(4, 0, 0, 4);
    }
    if (name == "rows") {
      return atLeast(0, 0, 4, 0);
    }
    return corrupt(where, ": input '", name, "' is neither tokens, seq, pos, runs or rows nor an argument of an entry");
  case BufferKind::Arena:
  case BufferKind::State:
    return {};
  }
  return {};
}

Status VariantChecker::checkTensorReadable(uint32_t tensor, const Place &where, uint32_t position) {
  if (tensor >= sizeOf(program.tensors())) {
    return corrupt(where, " reads tensor ", tensor, " of ", sizeOf(program.tensors()));
  }
  if (program.tensors()->Get(tensor)->file() == kNoFile && writers[tensor] >= position) {
    return corrupt(where, " reads tensor ", tensor, " '", nameOrDash(program, program.tensors()->Get(tensor)->name()),
                   "', which no earlier initializer writes");
  }
  return {};
}

Status VariantChecker::checkOperand(const format::Operand &operand, const Place &where, TokenRange range,
                                    const format::Initializer *initializer, uint32_t position) {
  if (uint8_t(operand.access()) > uint8_t(format::Access::MAX)) {
    return corrupt(where, " has access ", int(operand.access()), ", known are 0 to 3");
  }
  bool writes = uint8_t(operand.access()) & uint8_t(format::Access::Write);
  const format::Extent &extent = operand.extent();
  switch (operand.kind()) {
  case OperandKind::Slice: {
    const auto *buffers = initializer ? initializer->scratch() : variant.buffers();
    if (operand.index() >= sizeOf(buffers)) {
      return corrupt(where, " is a slice of buffer ", operand.index(), " of ", sizeOf(buffers));
    }
    if (operand.access() == format::Access::None) {
      return corrupt(where, " is a slice with access none: it must say read, write or both");
    }
    const format::Buffer &buffer = *buffers->Get(operand.index());
    const bool owned = !initializer && owners[operand.index()];
    if (owned ? owners[operand.index()] != currentEntry : buffer.kind() == BufferKind::Output && !writesLogits) {
      return corrupt(where, " is a slice of '", nameOrDash(program, buffer.name()),
                     "', which is no argument of entry '", entryOf(variant, currentEntry).name, "'");
    }
    if (writes && (buffer.kind() == BufferKind::Constant || buffer.kind() == BufferKind::Input)) {
      return corrupt(where, " writes buffer '", nameOrDash(program, buffer.name()), "', which is read-only");
    }
    if (!isNonNegative(extent) || (initializer && !isFixed(extent))) {
      return corrupt(where, " has extent ", describeExtent(extent), initializer ? ", must be fixed and" : ", must be",
                     " not negative");
    }
    // The caller's memory holds T tokens or M rows; all other buffers are allocated for Tmax.
    int64_t sizedAt = buffer.kind() == BufferKind::Output || owned ? -1 : program.max_tokens();
    if (!fits(extent, operand.offset(), buffer.size(), range, sizedAt)) {
      return corrupt(where, " is bytes ", operand.offset(), " .. + ", describeExtent(extent), " of buffer '",
                     nameOrDash(program, buffer.name()), "', which has ", describeExtent(buffer.size()),
                     " bytes: not inside it for every T in [", range.first, ", ", range.last, "]");
    }
    return {};
  }
  case OperandKind::WeightSpan: {
    bool isResult = initializer && operand.index() == initializer->result();
    if (writes && !isResult) {
      return corrupt(where, " writes tensor ", operand.index(), ": only an initializer writes one, its result");
    }
    if (!isResult) {
      MOERT_TRY(checkTensorReadable(operand.index(), where, position));
    }
    uint64_t bytes = program.tensors()->Get(operand.index())->bytes();
    uint64_t lastStart; // where the last rank's span begins
    if (!isFixed(extent) || extent.fixed() < 0 ||
        __builtin_mul_overflow(operand.value(), uint64_t(variant.ranks() - 1), &lastStart) ||
        __builtin_add_overflow(lastStart, operand.offset(), &lastStart) || lastStart > bytes ||
        uint64_t(extent.fixed()) > bytes - lastStart) {
      return corrupt(
          where, " is bytes ", operand.offset(), " .. + ", describeExtent(extent), " of tensor '",
          nameOrDash(program, program.tensors()->Get(operand.index())->name()), "', which has ", bytes, " bytes",
          operand.value() ? concat(", at steps of ", operand.value(), " for each of ", variant.ranks(), " ranks") : "");
    }
    if (operand.value() && (isResult || isZero(extent))) {
      return corrupt(where, " is at a step of ", operand.value(), " bytes per rank: ",
                     isResult ? "the result of an initializer is each rank's own" : "it must say how many bytes it is");
    }
    return {};
  }
  case OperandKind::WeightTable: {
    if (operand.index() >= sizeOf(program.tables())) {
      return corrupt(where, " is weight table ", operand.index(), " of ", sizeOf(program.tables()));
    }
    if (writes) {
      return corrupt(where, " writes weight table ", operand.index(), ": weights are read-only");
    }
    const format::WeightTable &table = *program.tables()->Get(operand.index());
    uint64_t needed;
    if (operand.value() &&
        (__builtin_mul_overflow(operand.value(), uint64_t(variant.ranks()), &needed) || needed != table.count())) {
      return corrupt(where, " takes ", operand.value(), " entries per rank of weight table ", operand.index(),
                     ", which has ", table.count(), " for ", variant.ranks(), " ranks");
    }
    if (readableTables[operand.index()]) {
      return {};
    }
    for (uint32_t i = 0; i < table.count(); ++i) {
      const format::TableEntry &entry = *program.table_entries()->Get(table.first() + i);
      if (program.tensors()->Get(entry.tensor())->file() == kNoFile) {
        MOERT_TRY(checkTensorReadable(entry.tensor(), where, position));
      }
    }
    readableTables[operand.index()] = true;
    return {};
  }
  case OperandKind::Size:
    if (operand.value() > uint64_t(format::Dim::MAX)) {
      return corrupt(where, " is size ", operand.value(), ", known are 0 to ", int(format::Dim::MAX));
    }
    if (initializer && format::Dim(operand.value()) != format::Dim::Ranks &&
        format::Dim(operand.value()) != format::Dim::Rank) {
      return corrupt(where, " is a size: an initializer runs once, outside any step, and knows only ranks and rank");
    }
    return {};
  case OperandKind::TensorMap:
    if (initializer || operand.index() >= sizeOf(variant.tensor_maps())) {
      return corrupt(where, " is tensor map ", operand.index(), " of ", sizeOf(variant.tensor_maps()),
                     initializer ? ", but an initializer takes none" : "");
    }
    return checkTensorMap(operand.index(), where, range, position);
  case OperandKind::Constant:
    return {};
  }
  return corrupt(where, " has kind ", int(operand.kind()), ", known are 0 to ", int(OperandKind::MAX));
}

/// The matrix lies inside its tensors, and TMA can read it there.
Status VariantChecker::checkTensorMap(uint32_t index, const Place &where, TokenRange range, uint32_t position) {
  constexpr uint64_t alignment = 16, mostRows = 256, width = 2;
  const format::TensorMap &map = *variant.tensor_maps()->Get(index);
  if (map.rows() - 1 >= uint64_t(kMaxSize) || map.columns() - 1 >= uint64_t(kMaxSize) || map.box_rows() < 1 ||
      map.box_rows() > mostRows || (map.columns() * width) % alignment) {
    return corrupt(where, " is tensor map ", index, " of ", map.rows(), " rows of ", map.columns(), " elements by ",
                   map.box_rows(), " rows: rows are multiples of ", alignment, " bytes, boxes of 1 to ", mostRows);
  }
  const uint64_t bytes = map.rows() * map.columns() * width;
  if (map.index() < sizeOf(program.tensors()) || map.table()) {
    MOERT_TRY(checkOperand(weightOf(variant, index), where, range, nullptr, position));
  } else {
    return corrupt(where, " is tensor map ", index, " of tensor ", map.index(), " of ", sizeOf(program.tensors()));
  }
  auto check = [&](uint32_t number, uint64_t offset, uint64_t perRank) -> Status {
    const format::Tensor &tensor = *program.tensors()->Get(number);
    if (tensor.dtype() != format::DType::BF16 && tensor.dtype() != format::DType::F16) {
      return corrupt(where, " is tensor map ", index, " of a tensor of type ", int(tensor.dtype()), ", must be 16-bit");
    }
    if (offset % alignment || perRank % alignment || bytes > tensor.bytes() || offset > tensor.bytes() - bytes) {
      return corrupt(where, " is tensor map ", index, " of ", bytes, " bytes at ", offset, " of tensor '",
                     nameOrDash(program, tensor.name()), "', which has ", tensor.bytes(), " bytes");
    }
    return {};
  };
  if (!map.table()) {
    return check(map.index(), map.offset(), map.per_rank());
  }
  const format::WeightTable &table = *program.tables()->Get(map.index());
  for (uint32_t i = 0; i < table.count(); ++i) {
    const format::TableEntry &entry = *program.table_entries()->Get(table.first() + i);
    MOERT_TRY(check(entry.tensor(), entry.offset(), 0));
  }
  return {};
}

/// Operand shapes of copy, fill and collective, beyond what each operand must satisfy by itself.
Status VariantChecker::checkTransfer(const format::Command &command, const Place &where) {
  auto isPlace = [&](const format::Operand &o) {
    return o.kind() == OperandKind::Slice || o.kind() == OperandKind::WeightSpan;
  };
  auto accesses = [&](const format::Operand &o, format::Access access) { return o.access() == access; };
  bool isFill = command.kind() == CommandKind::Fill;
  bool inPlace = command.kind() == CommandKind::Collective && command.operand_count() == 1;
  uint32_t expected = isFill || inPlace ? 1 : 2;
  if (command.operand_count() != expected) {
    return corrupt(where, " has ", command.operand_count(), " operands, must have ", expected);
  }
  const format::Operand &to = operand(command, 0);
  if (!isPlace(to) || !accesses(to, inPlace ? format::Access::ReadWrite : format::Access::Write)) {
    return corrupt(where, ": operand 0 must be a slice or the initializer's result, with access ",
                   inPlace ? "read and write" : "write");
  }
  if (isZero(to.extent()) && to.kind() == OperandKind::WeightSpan) {
    return corrupt(where, ": operand 0 must say how many bytes it is");
  }
  if (isFill && command.value() > 255) {
    return corrupt(where, " fills with ", command.value(), ", which is not a byte");
  }
  if (expected == 1) {
    return {};
  }
  const format::Operand &from = operand(command, 1);
  bool spanRead = from.kind() == OperandKind::WeightSpan && !accesses(from, format::Access::Write);
  if (!isPlace(from) || (!spanRead && !accesses(from, format::Access::Read))) {
    return corrupt(where, ": operand 1 must be a slice or weight span that is read");
  }
  // Of one rank a collective is a copy; of several each kind has its own relation.
  if ((command.kind() == CommandKind::Copy || variant.ranks() == 1) && !equal(to.extent(), from.extent())) {
    return corrupt(where, " copies ", describeExtent(from.extent()), " bytes to ", describeExtent(to.extent()),
                   " bytes: the two must be equal");
  }
  return {};
}

/// The operands of an Exchange: places, accesses and what counts must hold; how many rows there are only a step knows.
Status VariantChecker::checkExchange(const format::Command &command, const Place &where) {
  if (command.operand_count() != 4) {
    return corrupt(where, " has ", command.operand_count(), " operands, an exchange must have 4");
  }
  if (command.value() < 1 || command.value() > uint64_t(INT32_MAX)) {
    return corrupt(where, " exchanges rows of ", command.value(), " bytes, must be 1 to 2^31 - 1");
  }
  const int64_t countBytes = 4 * int64_t(variant.ranks());
  for (uint32_t i = 0; i < 4; ++i) {
    const format::Operand &o = operand(command, i);
    if (o.kind() != OperandKind::Slice || o.access() != (i % 2 ? format::Access::Read : format::Access::Write)) {
      return corrupt(where, ": operand ", i, " must be a slice that is ", i % 2 ? "read" : "written");
    }
    if (i >= 2 && !(isFixed(o.extent()) && o.extent().fixed() == countBytes)) {
      return corrupt(where, ": operand ", i, " holds a count per rank and must have ", countBytes, " bytes, it has ",
                     describeExtent(o.extent()));
    }
  }
  return {};
}

/// A command that touches the state `picks` is left out in some steps: so nothing else may depend on it.
Status VariantChecker::checkPick(const format::Command &command, const Place &where) {
  bool touches = false, writesOther = false;
  for (uint32_t i = 0; i < command.operand_count(); ++i) {
    const format::Operand &o = operand(command, i);
    const bool isPicks = o.kind() == OperandKind::Slice && o.index() == picks;
    touches |= isPicks;
    writesOther |= isPicks ? o.access() != format::Access::Write || o.offset() || o.extent().per_row() != 4 ||
                                 o.extent().fixed() || o.extent().per_token()
                           : o.kind() == OperandKind::Slice && uint8_t(o.access()) & uint8_t(format::Access::Write);
  }
  if (touches && (writesOther || command.kind() != CommandKind::Launch)) {
    return corrupt(where, " touches the state 'picks': it must be a launch that writes 4 bytes per row there, at its "
                          "beginning, and nothing else");
  }
  picking += touches;
  return {};
}

/// What a collective of several ranks needs beyond a transfer: the relation of its extents, by kind.
Status VariantChecker::checkCollective(const format::Command &command, const Place &where) {
  using format::CollectiveKind;
  if (command.target() > uint32_t(CollectiveKind::MAX)) {
    return corrupt(where, " is collective ", command.target(), ", known are 0 to ", int(CollectiveKind::MAX));
  }
  const auto kind = CollectiveKind(command.target());
  if (kind == CollectiveKind::Exchange) {
    return checkExchange(command, where);
  }
  MOERT_TRY(checkTransfer(command, where));
  if (variant.ranks() == 1) {
    return {};
  }
  const bool sums = kind == CollectiveKind::AllReduceSum || kind == CollectiveKind::ReduceScatterSum;
  if (sums && command.value() != uint64_t(format::DType::F32) && command.value() != uint64_t(format::DType::BF16)) {
    return corrupt(where, " sums elements of type ", command.value(), ", known are f32 (", int(format::DType::F32),
                   ") and bf16 (", int(format::DType::BF16), ")");
  }
  if (command.operand_count() == 1 && kind != CollectiveKind::AllReduceSum) {
    return corrupt(where, " has 1 operand: of several ranks only a sum over all of them is in place");
  }
  const format::Extent &to = operand(command, 0).extent();
  const format::Extent &from = operand(command, command.operand_count() - 1).extent();
  const bool grows = kind == CollectiveKind::AllGather, shrinks = kind == CollectiveKind::ReduceScatterSum;
  const int64_t element = !sums ? 1 : command.value() == uint64_t(format::DType::F32) ? 4 : 2;
  const format::Extent &large = shrinks ? from : to, &small = shrinks ? to : from;
  const int64_t ratio = grows || shrinks ? variant.ranks() : 1;
  auto related = [&](int64_t a, int64_t b) {
    int64_t product;
    return !__builtin_mul_overflow(b, ratio, &product) && a == product && b % element == 0;
  };
  if (!related(large.fixed(), small.fixed()) || !related(large.per_token(), small.per_token()) ||
      !related(large.per_row(), small.per_row()) || !related(large.per_sequence(), small.per_sequence()) ||
      !related(large.per_cache_row(), small.per_cache_row())) {
    return corrupt(where, " goes from ", describeExtent(from), " to ", describeExtent(to), " bytes on ",
                   variant.ranks(), " ranks: ",
                   shrinks ? "the first must be ranks times the second"
                   : grows ? "the second must be ranks times the first"
                           : "the two must be equal",
                   sums ? " and whole elements" : "");
  }
  const int64_t parts = variant.ranks();
  if (kind == CollectiveKind::AllToAll && (to.fixed() % parts || to.per_token() % parts || to.per_row() % parts ||
                                           to.per_sequence() % parts || to.per_cache_row() % parts)) {
    return corrupt(where, " cuts ", describeExtent(to), " bytes into parts for ", parts,
                   " ranks: every member must be divisible");
  }
  if (variant.rank_inputs() == format::RankInputs::Distributed && to.per_row()) {
    return corrupt(where, " has extent ", describeExtent(to),
                   ": it may not grow with M, which each rank has its own of when inputs are distributed");
  }
  return {};
}

Status VariantChecker::checkCommand(uint32_t index, TokenRange range, const format::Initializer *initializer,
                                    uint32_t position) {
  const format::Command &command = *variant.commands()->Get(index);
  const Place where{program, variant, index};
  if (command.name() >= sizeOf(program.strings())) {
    return corrupt(where, " has name index ", command.name(), " of ", sizeOf(program.strings()), " strings");
  }
  if (command.stream() >= variant.streams()) {
    return corrupt(where, " runs on stream ", int(command.stream()), " of ", int(variant.streams()));
  }
  uint64_t operands = sizeOf(variant.operands());
  if (command.first_operand() > operands || command.operand_count() > operands - command.first_operand() ||
      command.operand_count() > kMaxOperands) {
    return corrupt(where, " has operands ", command.first_operand(), " .. + ", command.operand_count(), " of ",
                   operands, " (at most ", kMaxOperands, ")");
  }
  checks += 1 + command.operand_count();
  if (checks > kMaxChecks) {
    return corrupt(where, ": steps and initializers name more than ", kMaxChecks, " commands and operands");
  }
  for (uint32_t i = 0; i < command.operand_count(); ++i) {
    MOERT_TRY(checkOperand(operand(command, i), {program, variant, index, i}, range, initializer, position));
  }
  if (!initializer && picks != kNoBuffer) {
    MOERT_TRY(checkPick(command, where));
  }
  if (initializer && command.kind() != CommandKind::Launch && command.kind() != CommandKind::Copy &&
      command.kind() != CommandKind::Fill) {
    return corrupt(where, " has kind ", int(command.kind()), ": an initializer launches, copies and fills only");
  }
  switch (command.kind()) {
  case CommandKind::Launch: {
    if (command.target() >= sizeOf(variant.kernels())) {
      return corrupt(where, " launches kernel ", command.target(), " of ", sizeOf(variant.kernels()));
    }
    const format::Grid &grid = command.grid();
    int64_t units;
    if (!isNonNegative(grid.units()) || grid.divisor() < 1 || grid.cap() < 0 || grid.factor() < 0 ||
        (initializer && !isFixed(grid.units())) || !evaluate(grid.units(), {range.last, range.last, 1, 1}, units)) {
      return corrupt(where, " has grid ", grid.factor(), " * min(", grid.cap(), ", ceil((",
                     describeExtent(grid.units()), ") / ", grid.divisor(),
                     ")): needs factor, cap and units of at "
                     "least 0",
                     initializer ? " (fixed)" : "", " and a divisor of at least 1");
    }
    return {};
  }
  case CommandKind::Copy:
  case CommandKind::Fill:
    return checkTransfer(command, where);
  case CommandKind::Collective:
    return checkCollective(command, where);
  case CommandKind::Record:
  case CommandKind::Wait:
    if (command.target() >= variant.events()) {
      return corrupt(where, " names event ", command.target(), " of ", variant.events());
    }
    return {};
  case CommandKind::GroupBegin:
  case CommandKind::GroupEnd:
    return {};
  case CommandKind::HostCall:
    if (command.target() >= sizeOf(program.strings())) {
      return corrupt(where, " calls name ", command.target(), " of ", sizeOf(program.strings()), " strings");
    }
    return {};
  }
  return corrupt(where, " has kind ", int(command.kind()), ", known are 0 to ", int(CommandKind::MAX));
}

/// What a launch takes besides the grid, within what every GPU has; what the one at hand has is its driver's to say.
Status VariantChecker::checkKernels() {
  const bool isCpu = isForCpu(variant);
  bool exact;
  if (!isCpu && !gpuCapability(variant, exact)) {
    return corrupt("target must be 'cuda:sm_' and a compute capability, 'cuda:sm_80' for instance");
  }
  if (!isCpu && sizeOf(variant.features())) {
    return corrupt("names CPU feature '", variant.features()->Get(0)->str(), "': a variant for GPUs has none");
  }
  for (uint32_t k = 0; k < sizeOf(variant.kernels()); ++k) {
    const format::Kernel &kernel = *variant.kernels()->Get(k);
    const std::string where = concat("kernel ", k, " '", kernel.symbol()->str(), "'");
    if (isCpu && (kernel.threads() || kernel.shared_bytes())) {
      return corrupt(where, " has ", kernel.threads(), " threads and ", kernel.shared_bytes(),
                     " bytes of shared memory: on a CPU both must be 0");
    }
    if (isCpu && kernel.waits()) {
      return corrupt(where, " waits for the kernels before it: on a CPU the runtime does");
    }
    if (!isCpu && (kernel.threads() < 1 || kernel.threads() > kMaxGpuThreads)) {
      return corrupt(where, " has ", kernel.threads(), " threads per workgroup, must have 1 to ", kMaxGpuThreads);
    }
    if (kernel.shared_bytes() > kMaxGpuSharedBytes) {
      return corrupt(where, " has ", kernel.shared_bytes(), " bytes of shared memory, must have at most ",
                     kMaxGpuSharedBytes);
    }
  }
  return {};
}

Status VariantChecker::checkInitializers() {
  for (uint32_t i = 0; i < sizeOf(variant.initializers()); ++i) {
    const format::Initializer &initializer = *variant.initializers()->Get(i);
    std::string where = concat("initializer ", i);
    // not tested: the first side alone guards a read past the table, which only a sanitizer sees
    if (initializer.result() >= sizeOf(program.tensors()) ||
        program.tensors()->Get(initializer.result())->file() != kNoFile) {
      return corrupt(where, " writes tensor ", initializer.result(), " of ", sizeOf(program.tensors()),
                     ", which must be one without a file");
    }
    if (writers[initializer.result()] != kNotWritten) {
      return corrupt(where, " writes tensor ", initializer.result(), ", which initializer ",
                     writers[initializer.result()], " writes already");
    }
    std::string key = initializer.key()->str();
    if (key.size() != 64 || key.find_first_not_of("0123456789abcdef") != std::string::npos) {
      return corrupt(where, " has a key of ", key.size(), " characters, must be 64 lower-case hexadecimal digits");
    }
    for (uint32_t b = 0; b < sizeOf(initializer.scratch()); ++b) {
      MOERT_TRY(checkBuffer(*initializer.scratch()->Get(b), concat(where, ": scratch ", b), true, false));
    }
    uint64_t commands = sizeOf(variant.commands());
    if (initializer.first_command() > commands ||
        initializer.command_count() > commands - initializer.first_command()) {
      return corrupt(where, " has commands ", initializer.first_command(), " .. + ", initializer.command_count(),
                     " of ", commands);
    }
    for (uint32_t c = 0; c < initializer.command_count(); ++c) {
      MOERT_TRY(checkCommand(initializer.first_command() + c, {0, 0}, &initializer, i));
    }
    writers[initializer.result()] = i;
  }
  return {};
}

/// Arguments and name of entry `index`; its steps are checked with those of the others.
Status VariantChecker::checkEntry(uint32_t index) {
  const EntryView entry = entryOf(variant, index);
  const std::string where = concat("entry ", index, " '", entry.name, "'");
  for (uint32_t other = 0; other < index; ++other) {
    if (strcmp(entry.name, entryOf(variant, other).name) == 0) {
      return corrupt(where, " has the name of entry ", other);
    }
  }
  for (auto [arguments, kind] : {std::pair(entry.inputs, BufferKind::Input), {entry.outputs, BufferKind::Output}}) {
    for (uint32_t i = 0; i < sizeOf(arguments); ++i) {
      const uint32_t index32 = arguments->Get(i);
      // not tested: the first side alone guards a read past the table, which only a sanitizer sees
      if (index32 >= sizeOf(variant.buffers()) || variant.buffers()->Get(index32)->kind() != kind) {
        return corrupt(where, ": argument ", i, " is buffer ", index32, " of ", sizeOf(variant.buffers()),
                       ", which must be an ", format::EnumNameBufferKind(kind));
      }
      const format::Buffer &buffer = *variant.buffers()->Get(index32);
      if (kind == BufferKind::Output && strcmp(nameOrDash(program, buffer.name()), "logits") == 0) {
        continue;
      }
      const format::Extent &size = buffer.size();
      if (size.fixed() || dependsOnSession(size) || !size.per_token() == !size.per_row()) {
        return corrupt(where, ": argument ", i, " has size ", describeExtent(size),
                       ", must be a number of bytes per token or per row");
      }
      if (owners[index32]) {
        return corrupt(where, ": argument ", i, " is one of entry ", owners[index32], " already");
      }
      owners[index32] = index;
    }
  }
  return {};
}

Status VariantChecker::checkSteps(uint32_t entry) {
  const uint32_t afterInitializers = kNotWritten;
  const EntryView view = entryOf(variant, entry);
  currentEntry = entry;
  writesLogits = entry == 0;
  for (uint32_t i = 0; i < sizeOf(view.outputs); ++i) {
    writesLogits |= !owners[view.outputs->Get(i)];
  }
  int64_t next = 1;
  for (uint32_t s = 0; s < sizeOf(view.steps); ++s) {
    const format::StepVariant &step = *view.steps->Get(s);
    if (step.min_tokens() != next || step.max_tokens() < step.min_tokens() ||
        step.max_tokens() > program.max_tokens()) {
      return corrupt("step ", s, " is for T in [", step.min_tokens(), ", ", step.max_tokens(), "], must start at ",
                     next, " and end at most at ", program.max_tokens());
    }
    next = step.max_tokens() + 1;
    uint64_t commands = sizeOf(variant.commands());
    if (step.first_command() > commands || step.command_count() > commands - step.first_command()) {
      return corrupt("step ", s, " has commands ", step.first_command(), " .. + ", step.command_count(), " of ",
                     commands);
    }
    picking = 0;
    for (uint32_t c = 0; c < step.command_count(); ++c) {
      MOERT_TRY(
          checkCommand(step.first_command() + c, {step.min_tokens(), step.max_tokens()}, nullptr, afterInitializers));
    }
    if (entry == 0 && picks != kNoBuffer && picking != 1) {
      return corrupt("step ", s, " has ", picking, " launches that write the state 'picks', must have one");
    }
    MOERT_TRY(checkHazards(program, variant, step));
  }
  if (next != program.max_tokens() + 1) {
    return corrupt(entry ? concat("entry '", view.name, "': ") : "", "steps cover T up to ", next - 1,
                   ", must cover 1 to ", program.max_tokens());
  }
  return {};
}

Status VariantChecker::run() {
  if (!isSafeRelativePath(variant.blob()->str()) || variant.blob()->str().find('/') != std::string::npos) {
    return corrupt("kernels '", variant.blob()->str(), "' must be a file name inside the package");
  }
  if (variant.blob_sha256()->size() != 32) {
    return corrupt("the kernels' SHA-256 has ", variant.blob_sha256()->size(), " bytes, must have 32");
  }
  if (variant.streams() < 1 || variant.events() > (1u << 20) || variant.ranks() < 1) {
    return corrupt(int(variant.streams()), " streams, ", variant.events(), " events and ", variant.ranks(),
                   " ranks: must be at least 1, at most 1048576 and at least 1");
  }
  if (uint8_t(variant.rank_inputs()) > uint8_t(format::RankInputs::MAX)) {
    return corrupt("rank inputs of kind ", int(variant.rank_inputs()), ", known are 0 to ",
                   int(format::RankInputs::MAX));
  }
  MOERT_TRY(checkKernels());
  owners.assign(sizeOf(variant.buffers()), 0);
  for (uint32_t e = 1; e < entryCount(variant); ++e) {
    MOERT_TRY(checkEntry(e));
  }
  std::set<std::string> names;
  for (uint32_t b = 0; b < sizeOf(variant.buffers()); ++b) {
    const format::Buffer &buffer = *variant.buffers()->Get(b);
    MOERT_TRY(checkBuffer(buffer, concat("buffer ", b), false, owners[b] != 0));
    bool isNamed = buffer.kind() != BufferKind::Arena && buffer.kind() != BufferKind::Constant;
    if (isNamed && !names.insert(nameOrDash(program, buffer.name())).second) {
      return corrupt("buffer ", b, " has the name '", nameOrDash(program, buffer.name()),
                     "', which another buffer has");
    }
  }
  picks = picksBuffer(program, variant);
  MOERT_TRY(checkInitializers());
  for (uint32_t e = 0; e < entryCount(variant); ++e) {
    MOERT_TRY(checkSteps(e));
  }
  return {};
}

} // namespace

std::string describeCommand(const format::Program &program, const format::Variant &variant, uint32_t index) {
  return concat("command ", index, " '", nameOrDash(program, variant.commands()->Get(index)->name()), "'");
}

Status checkVariant(const format::Program &program, const format::Variant &variant) {
  return VariantChecker(program, variant).run();
}

format::Operand weightOf(const format::Variant &variant, uint32_t index) {
  const format::TensorMap &map = *variant.tensor_maps()->Get(index);
  constexpr uint64_t width = 2; // of the types that the checks let through
  const auto bytes = int64_t(map.per_rank() && !map.table() ? map.rows() * map.columns() * width : 0);
  return format::Operand(map.table() ? OperandKind::WeightTable : OperandKind::WeightSpan, format::Access::Read,
                         map.index(), map.table() ? 0 : map.offset(), format::Extent(bytes, 0, 0, 0, 0),
                         map.per_rank());
}

} // namespace moert
