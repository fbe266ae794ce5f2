//===- SchedProgramOps.cpp - What a program must satisfy as a whole ---------===//
//
// Resolves every symbol once and checks what only the whole shows: that slices
// lie inside their buffers at every size a session may bind, that steps cover
// 1..Tmax, that events are recorded before they are waited for, that computed
// tensors are computed. Conflicts between unordered commands are the matter of
// passes/Verify/VerifySched.cpp.
//
// How a slice is proved inside its buffer: both are affine in T, M, B and B*C.
// T and M <= T are those of the step, the buffer is measured at Tmax, and a
// session may bind any B, C >= 1. The slack (size - end) is linear in each, so
// it is smallest at a corner: T and M as large as the step allows, and B = C = 1
// once the coefficients of B and B*C do not shrink it. Outputs and arguments of entries
// are the caller's memory, measured at the step's own T and M: there the smallest T is
// a corner too, and M = 0.
//
//===----------------------------------------------------------------------===//

#include "dialects/Sched/IR/SchedOps.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace mlir::sched;

namespace {

/// Where commands stand: their own buffers, and the T that they run at.
struct Scope {
  SymbolTable &buffers;
  VariantOp variant;
  InitializerOp initializer; // null in a step
  EntryOp entry;             // null in an initializer and in the steps of the variant itself
  int64_t minTokens, maxTokens;
};

class ProgramVerifier {
public:
  explicit ProgramVerifier(ProgramOp program) : program(program), symbols(program) {}
  LogicalResult verify();

private:
  LogicalResult verifyTensor(TensorOp tensor);
  LogicalResult verifyTable(TableOp table);
  LogicalResult verifyVariant(VariantOp variant);
  LogicalResult verifyInterface(BufferOp buffer);
  LogicalResult verifyEntry(EntryOp entry, SymbolTable &names);
  LogicalResult verifySteps(Operation *parent, VariantOp variant, EntryOp entry, SymbolTable &names);
  LogicalResult verifyInitializers(VariantOp variant, SymbolTable &names);
  LogicalResult verifyCommands(Block &block, SymbolTable &names, Scope &scope);
  LogicalResult verifySlice(Operation *op, SliceAttr slice, Scope &scope);
  LogicalResult verifyWeight(Operation *op, WeightAttr weight, Scope &scope);
  LogicalResult verifyTableRef(Operation *op, TableRefAttr ref, Scope &scope);
  LogicalResult verifyTensorMap(Operation *op, TensorMapAttr map, Scope &scope);
  LogicalResult verifyInside(Operation *op, Attribute operand, int64_t offset, ExtentAttr extent, ExtentAttr size,
                             Scope &scope, bool isCallers = false);
  LogicalResult verifyInitialized(Operation *op, FlatSymbolRefAttr tensor, Scope &scope);

  ProgramOp program;
  SymbolTable symbols;
  /// Results of the initializers seen so far in the variant at hand.
  llvm::SmallDenseSet<StringAttr> computed;
  /// Arguments and results of entries of the variant at hand: buffer to entry.
  llvm::SmallDenseMap<StringAttr, EntryOp> arguments;
};

} // namespace

/// Signed 128 bits as text, for diagnostics.
static std::string toText(__int128 value) {
  return value <= INT64_MAX ? std::to_string(static_cast<int64_t>(value)) : "more than 2^63";
}

LogicalResult ProgramVerifier::verify() {
  llvm::SmallDenseMap<StringAttr, VariantOp> targets;
  for (Operation &op : program.getBody().front()) {
    LogicalResult result =
        llvm::TypeSwitch<Operation *, LogicalResult>(&op)
            .Case<FileOp, PackageFileOp>([](auto) { return success(); })
            .Case([&](TensorOp tensor) { return verifyTensor(tensor); })
            .Case([&](TableOp table) { return verifyTable(table); })
            .Case([&](VariantOp variant) -> LogicalResult {
              VariantOp &other = targets[variant.getTargetAttr()];
              if (other) { // variant_c3
                InFlightDiagnostic error = variant.emitOpError("target ");
                error << variant.getTargetAttr() << " must be unique";
                error.attachNote(other.getLoc()) << "used here before";
                return error;
              }
              other = variant;
              return success();
            })
            .Default([&](Operation *op) { // program_c1
              return program.emitOpError("must hold only files, package files, tensors, tables and variants, got '")
                     << op->getName() << "'";
            });
    if (failed(result)) {
      return failure();
    }
  }
  if (DictionaryAttr metadata = program.getMetadataAttr()) {
    for (NamedAttribute entry : metadata) {
      if (!isa<StringAttr>(entry.getValue())) { // program_c2
        return program.emitOpError("metadata '")
               << entry.getName().getValue() << "' must be a string, got " << entry.getValue();
      }
    }
  }
  // Last, wherever they stand: commands rely on tables that name tensors.
  for (auto variant : program.getBody().getOps<VariantOp>()) {
    if (failed(verifyVariant(variant))) {
      return failure();
    }
  }
  return success();
}

LogicalResult ProgramVerifier::verifyTensor(TensorOp tensor) {
  if (!tensor.getFile()) {
    return success();
  }
  auto file = symbols.lookup<FileOp>(*tensor.getFile());
  if (!file) { // tensor_c7
    return tensor.emitOpError("file ") << tensor.getFileAttr() << " must be a sched.file of the program";
  }
  int64_t offset = *tensor.getOffset(), size = file.getSize();
  if (offset > size || tensor.getByteSize() > size - offset) { // tensor_c8
    return tensor.emitOpError("bytes ") << offset << " to "
                                        << toText(static_cast<__int128>(offset) + tensor.getByteSize())
                                        << " must lie inside " << tensor.getFileAttr() << " (" << size << " bytes)";
  }
  return success();
}

LogicalResult ProgramVerifier::verifyTable(TableOp table) {
  for (auto entry : table.getEntries().getAsRange<WeightAttr>()) {
    auto tensor = symbols.lookup<TensorOp>(entry.getTensor().getAttr());
    if (!tensor) { // table_c3
      return table.emitOpError("entry ") << entry.getTensor() << " must be a sched.tensor of the program";
    }
    if (entry.getOffset() >= tensor.getByteSize()) { // table_c4
      return table.emitOpError("offset ") << entry.getOffset() << " must lie inside tensor " << entry.getTensor()
                                          << " (" << tensor.getByteSize() << " bytes)";
    }
  }
  return success();
}

LogicalResult ProgramVerifier::verifyVariant(VariantOp variant) {
  SymbolTable names(variant);
  arguments.clear();
  for (Operation &op : variant.getBody().front()) {
    if (!isa<KernelOp, BufferOp, ConstantOp, InitializerOp, StepOp, EntryOp>(op)) { // variant_c4
      return variant.emitOpError("must hold only kernels, buffers, constants, initializers, steps and entries, got '")
             << op.getName() << "'";
    }
    if (auto entry = dyn_cast<EntryOp>(op); entry && failed(verifyEntry(entry, names))) {
      return failure();
    }
  }
  for (auto buffer : variant.getBody().getOps<BufferOp>()) {
    if (!arguments.contains(buffer.getSymNameAttr()) && failed(verifyInterface(buffer))) {
      return failure();
    }
  }
  if (failed(verifyInitializers(variant, names)) || failed(verifySteps(variant, variant, nullptr, names))) {
    return failure();
  }
  for (auto entry : variant.getBody().getOps<EntryOp>()) {
    if (failed(verifySteps(entry, variant, entry, names))) {
      return failure();
    }
  }
  return success();
}

/// Arguments are the caller's memory: a fixed number of bytes per token, or per row of logits.
LogicalResult ProgramVerifier::verifyEntry(EntryOp entry, SymbolTable &names) {
  if (entry.getSymName() == "step") { // entry_c1
    return entry.emitOpError("must not be named step: those steps stand in the variant itself");
  }
  for (bool isInput : {true, false}) {
    const BufferKind kind = isInput ? BufferKind::Input : BufferKind::Output;
    for (auto argument : (isInput ? entry.getInputs() : entry.getOutputs()).getAsRange<FlatSymbolRefAttr>()) {
      if (!isInput && argument.getValue() == "logits") {
        continue; // whichever entry runs writes them
      }
      auto buffer = names.lookup<BufferOp>(argument.getAttr());
      if (!buffer || buffer.getKind() != kind) { // entry_c2
        return entry.emitOpError("argument ")
               << argument << " must be an " << stringifyBufferKind(kind) << " buffer of the variant";
      }
      ExtentAttr size = buffer.getSize();
      if (!size.getPerToken() == !size.getPerRow() || size.getFixed() || size.getPerSequence() ||
          size.getPerCacheRow()) { // entry_c3
        return buffer.emitOpError("size of an entry's argument must be a number of bytes per token or per row, got ")
               << size;
      }
      auto [other, isNew] = arguments.try_emplace(argument.getAttr(), entry);
      if (!isNew) { // entry_c4
        return entry.emitOpError("argument ")
               << argument << " must belong to one entry once, but is one of @" << other->second.getSymName();
      }
    }
  }
  return success();
}

/// Inputs and outputs of the step are what a step of the C ABI takes and gives.
LogicalResult ProgramVerifier::verifyInterface(BufferOp buffer) {
  MLIRContext *context = buffer.getContext();
  StringRef name = buffer.getSymName();
  if (buffer.getKind() == BufferKind::Input) {
    ExtentAttr expected = llvm::StringSwitch<ExtentAttr>(name)
                              .Cases({"tokens", "seq", "pos"}, ExtentAttr::perTokens(context, 4))
                              .Case("runs", ExtentAttr::get(context, 4, 0, 0, 4))
                              .Case("rows", ExtentAttr::perRows(context, 4))
                              .Default(nullptr);
    if (!expected) { // buffer_c3
      return buffer.emitOpError(
                 "input must be named tokens, seq, pos, runs or rows, or be an argument of an entry, got ")
             << buffer.getSymNameAttr();
    }
    ExtentAttr size = buffer.getSize();
    if (size.getFixed() < expected.getFixed() || size.getPerToken() < expected.getPerToken() ||
        size.getPerRow() < expected.getPerRow() || size.getPerSequence() < expected.getPerSequence()) { // buffer_c4
      return buffer.emitOpError("size of input ") << name << " must hold " << expected << ", got " << size;
    }
  }
  if (buffer.getKind() == BufferKind::Output) {
    auto expected = ExtentAttr::perRows(context, 4 * program.getVocab());
    if (name != "logits" || buffer.getSize() != expected) { // buffer_c5
      return buffer.emitOpError("output must be logits of size ")
             << expected << " (f32 per row and id), or be a result of an entry, got " << name << " of size "
             << buffer.getSize();
    }
  }
  return success();
}

LogicalResult ProgramVerifier::verifyInitializers(VariantOp variant, SymbolTable &names) {
  computed.clear();
  for (auto initializer : variant.getBody().getOps<InitializerOp>()) {
    auto tensor = symbols.lookup<TensorOp>(initializer.getResult());
    if (!tensor || !tensor.getComputed()) { // initializer_c2
      return initializer.emitOpError("result ")
             << initializer.getResultAttr() << " must be a computed sched.tensor of the program";
    }
    if (computed.contains(initializer.getResultAttr().getAttr())) { // initializer_c3
      return initializer.emitOpError("result ")
             << initializer.getResultAttr() << " must have one initializer, got a second";
    }
    SymbolTable scratch(initializer);
    Scope scope{scratch, variant, initializer, /*entry=*/nullptr, /*minTokens=*/1, /*maxTokens=*/1};
    if (failed(verifyCommands(initializer.getBody().front(), names, scope))) {
      return failure();
    }
    computed.insert(initializer.getResultAttr().getAttr());
  }
  return success();
}

/// The steps of `entry`, or of the variant itself.
LogicalResult ProgramVerifier::verifySteps(Operation *parent, VariantOp variant, EntryOp entry, SymbolTable &names) {
  int64_t next = 1, limit = program.getMaxTokens();
  if (entry) {
    for (Operation &op : entry.getBody().front()) {
      if (!isa<StepOp>(op)) { // entry_c5
        return entry.emitOpError("must hold only steps, got '") << op.getName() << "'";
      }
    }
  }
  for (auto step : parent->getRegion(0).getOps<StepOp>()) {
    if (static_cast<int64_t>(step.getMinTokens()) != next) { // step_c1
      return step.emitOpError("must start at ")
             << next << " tokens, where the steps before end, got " << step.getMinTokens();
    }
    if (step.getMaxTokens() < step.getMinTokens()) { // step_c2
      return step.emitOpError("must end at or after its first token count ")
             << step.getMinTokens() << ", got " << step.getMaxTokens();
    }
    Scope scope{names,
                variant,
                /*initializer=*/nullptr,
                entry,
                static_cast<int64_t>(step.getMinTokens()),
                static_cast<int64_t>(step.getMaxTokens())};
    if (scope.maxTokens <= limit && failed(verifyCommands(step.getBody().front(), names, scope))) {
      return failure();
    }
    next = scope.maxTokens + 1;
  }
  if (next - 1 != limit) { // variant_c5, entry_c6
    return parent->emitOpError("steps must cover 1 to ")
           << limit << " tokens (max_tokens), but cover 1 to " << next - 1;
  }
  return success();
}

LogicalResult ProgramVerifier::verifyCommands(Block &block, SymbolTable &names, Scope &scope) {
  llvm::SmallDenseSet<uint64_t> recorded;
  GroupBeginOp group;
  for (Operation &op : block) {
    if (scope.initializer && isa<BufferOp>(op)) {
      continue;
    }
    auto command = dyn_cast<CommandOpInterface>(op);
    if (!command) { // step_c3, initializer_c4
      return block.getParentOp()->emitOpError("must hold only commands, got '") << op.getName() << "'";
    }
    if (command.getStream() >= scope.variant.getStreams()) { // command_c1
      return op.emitOpError("stream ") << command.getStream() << " must be below the variant's number of streams, "
                                       << scope.variant.getStreams();
    }
    if (scope.initializer && !isa<LaunchOp, CopyOp, FillOp>(op)) { // initializer_c7
      return op.emitOpError("must not stand in an initializer, which holds launches, copies and fills");
    }
    if (auto launch = dyn_cast<LaunchOp>(op)) {
      if (!names.lookup<KernelOp>(launch.getKernel())) { // launch_c1
        return op.emitOpError("kernel ") << launch.getKernelAttr() << " must be a sched.kernel of the variant";
      }
      if (scope.initializer && !launch.getGrid().getUnits().isConstant()) { // initializer_c5
        return op.emitOpError("grid ") << launch.getGrid()
                                       << " must not depend on sizes: an initializer runs outside of steps";
      }
    } else if (auto record = dyn_cast<RecordOp>(op)) {
      if (record.getEvent() >= scope.variant.getEvents()) { // record_c1
        return op.emitOpError("event ") << record.getEvent() << " must be below the variant's number of events, "
                                        << scope.variant.getEvents();
      }
      if (!recorded.insert(record.getEvent()).second) { // record_c2
        return op.emitOpError("event ") << record.getEvent() << " must be recorded once, but is recorded before";
      }
    } else if (auto wait = dyn_cast<WaitOp>(op)) {
      if (!recorded.contains(wait.getEvent())) { // wait_c1
        return op.emitOpError("event ") << wait.getEvent() << " must be recorded before, but is not";
      }
    } else if (auto begin = dyn_cast<GroupBeginOp>(op)) {
      if (group) { // group_begin_c1
        InFlightDiagnostic error = op.emitOpError("must not stand inside another group");
        error.attachNote(group.getLoc()) << "which begins here";
        return error;
      }
      group = begin;
    } else if (auto collective = dyn_cast<CollectiveOp>(op)) {
      if (failed(collective.verifyRanks(scope.variant.getRanks()))) { // collective_c7
        return failure();
      }
    } else if (isa<GroupEndOp>(op)) {
      if (!group) { // group_end_c1
        return op.emitOpError("must close a group, but none is open");
      }
      group = nullptr;
    }
    for (Attribute operand : command.getOperandAttrs()) {
      LogicalResult result =
          llvm::TypeSwitch<Attribute, LogicalResult>(operand)
              .Case([&](SliceAttr slice) { return verifySlice(&op, slice, scope); })
              .Case([&](WeightAttr weight) { return verifyWeight(&op, weight, scope); })
              .Case([&](TableRefAttr ref) { return verifyTableRef(&op, ref, scope); })
              .Case([&](TensorMapAttr map) { return verifyTensorMap(&op, map, scope); })
              .Case([&](SizeAttr size) -> LogicalResult {
                if (scope.initializer && size.getDim() != Dim::Ranks && size.getDim() != Dim::Rank) { // initializer_c8
                  return op.emitOpError("operand ")
                         << size << " must not stand in an initializer, which runs outside of steps";
                }
                return success();
              })
              .Case([](ScalarAttr) { return success(); })
              .Default([&](Attribute other) { // command_c3
                return op.emitOpError("operand must be a slice, weight, table, tensor map, size or constant, got ")
                       << other;
              });
      if (failed(result)) {
        return failure();
      }
    }
  }
  if (group) { // group_begin_c2
    return group.emitOpError("must be closed by a group_end, but is not");
  }
  return success();
}

LogicalResult ProgramVerifier::verifyInitialized(Operation *op, FlatSymbolRefAttr symbol, Scope &scope) {
  auto tensor = symbols.lookup<TensorOp>(symbol.getAttr());
  bool isOwnResult = scope.initializer && scope.initializer.getResultAttr() == symbol;
  if (tensor.getComputed() && !isOwnResult && !computed.contains(symbol.getAttr())) { // command_c4
    InFlightDiagnostic error = op->emitOpError("tensor ");
    error << symbol << " is computed, but no initializer before this computes it";
    error.attachNote(tensor.getLoc()) << "declared here";
    return error;
  }
  return success();
}

LogicalResult ProgramVerifier::verifySlice(Operation *op, SliceAttr slice, Scope &scope) {
  Operation *target = scope.buffers.lookup(slice.getBuffer().getAttr());
  if (auto buffer = dyn_cast_or_null<BufferOp>(target)) {
    EntryOp owner = arguments.lookup(buffer.getSymNameAttr());
    bool isLogits = !owner && buffer.getKind() == BufferKind::Output;
    if (isLogits && scope.entry && !llvm::is_contained(scope.entry.getOutputs(), slice.getBuffer())) {
      return op->emitOpError() << slice << " must be an output of entry @" << scope.entry.getSymName(); // entry_c7
    }
    if (owner && owner != scope.entry) { // entry_c7
      return op->emitOpError() << slice << " is an argument of entry @" << owner.getSymName()
                               << ", which only its own steps may touch";
    }
    if (writes(slice.getAccess()) && buffer.getKind() == BufferKind::Input) { // slice_c4
      return op->emitOpError() << slice << " must not write an input";
    }
    return verifyInside(op, slice, slice.getOffset(), slice.getExtent(), buffer.getSize(), scope,
                        buffer.getKind() == BufferKind::Output || owner);
  }
  if (auto constant = dyn_cast_or_null<ConstantOp>(target)) {
    if (writes(slice.getAccess())) { // slice_c4
      return op->emitOpError() << slice << " must not write a constant";
    }
    auto size = ExtentAttr::get(op->getContext(), constant.getBytes().size());
    return verifyInside(op, slice, slice.getOffset(), slice.getExtent(), size, scope);
  }
  return op->emitOpError("buffer ") << slice.getBuffer()
                                    << " must be a sched.buffer or sched.constant of the " // slice_c2
                                    << (scope.initializer ? "initializer" : "variant");
}

LogicalResult ProgramVerifier::verifyWeight(Operation *op, WeightAttr weight, Scope &scope) {
  auto tensor = symbols.lookup<TensorOp>(weight.getTensor().getAttr());
  if (!tensor) { // span_c3
    return op->emitOpError("tensor ") << weight.getTensor() << " must be a sched.tensor of the program";
  }
  if (writes(weight.getAccess()) &&
      (!scope.initializer || scope.initializer.getResultAttr() != weight.getTensor())) { // span_c4
    return op->emitOpError() << weight << " must not be written: only an initializer writes, and only its own result";
  }
  if (weight.getExtent() && !weight.getExtent().isConstant()) { // span_c6
    return op->emitOpError() << weight << " must have a fixed extent: a tensor has no dynamic dim";
  }
  if (failed(verifyInitialized(op, weight.getTensor(), scope))) {
    return failure();
  }
  auto size = ExtentAttr::get(op->getContext(), tensor.getByteSize());
  auto extent = weight.getExtent() ? weight.getExtent() : ExtentAttr::get(op->getContext(), 0);
  if (weight.getPerRank()) {
    if (writes(weight.getAccess()) || !weight.getExtent()) { // span_c8
      return op->emitOpError() << weight
                               << " must be read, with an extent: a rank's part ends where the next one begins";
    }
    // That of the last rank ends last.
    const int64_t last = scope.variant.getRanks() - 1;
    __int128 end =
        weight.getOffset() + static_cast<__int128>(weight.getPerRank()) * last + weight.getExtent().getFixed();
    if (end > tensor.getByteSize()) { // span_c5
      return op->emitOpError() << weight << " must end inside its tensor: for rank " << last << " it ends at byte "
                               << toText(end) << " of " << tensor.getByteSize();
    }
  }
  return verifyInside(op, weight, weight.getOffset(), extent, size, scope); // span_c5
}

LogicalResult ProgramVerifier::verifyTableRef(Operation *op, TableRefAttr ref, Scope &scope) {
  auto table = symbols.lookup<TableOp>(ref.getTable().getAttr());
  if (!table) { // command_c2
    return op->emitOpError("table ") << ref.getTable() << " must be a sched.table of the program";
  }
  const int64_t ranks = scope.variant.getRanks(), entries = table.getEntries().size();
  if (ref.getPerRank() && (entries % ranks != 0 || entries / ranks != ref.getPerRank())) { // table_c5
    return op->emitOpError("table ") << ref.getTable() << " with " << ref.getPerRank()
                                     << " entries per rank must hold those of " << ranks << " ranks, but holds "
                                     << entries;
  }
  for (auto entry : table.getEntries().getAsRange<WeightAttr>()) {
    if (failed(verifyInitialized(op, entry.getTensor(), scope))) {
      return failure();
    }
  }
  return success();
}

/// The matrix lies inside its tensor, or inside that of every entry, as TMA can read it.
LogicalResult ProgramVerifier::verifyTensorMap(Operation *op, TensorMapAttr map, Scope &scope) {
  constexpr int64_t alignment = 16;
  if (scope.initializer) { // tensor_map_c2
    return op->emitOpError() << map << " must not stand in an initializer";
  }
  auto verifyPlace = [&](WeightAttr place, int64_t end) -> LogicalResult {
    auto tensor = symbols.lookup<TensorOp>(place.getTensor().getAttr());
    const auto width = static_cast<int64_t>(tensor.getTensorType().getElementTypeBitWidth()) / 8;
    const __int128 rowBytes = static_cast<__int128>(map.getColumns()) * width;
    if (rowBytes % alignment != 0 || place.getOffset() % alignment != 0 ||
        place.getPerRank() % alignment != 0) { // tensor_map_c3
      return op->emitOpError() << map << " must have rows and offsets of a multiple of " << alignment
                               << " bytes, got rows of " << toText(rowBytes) << " at offset " << place.getOffset();
    }
    if (end + map.getRows() * rowBytes > tensor.getByteSize()) { // tensor_map_c4
      return op->emitOpError() << map << " must end inside tensor " << place.getTensor() << " (" << tensor.getByteSize()
                               << " bytes), but ends at byte " << toText(end + map.getRows() * rowBytes);
    }
    return success();
  };
  if (auto weight = dyn_cast<WeightAttr>(map.getSource())) {
    const int64_t last = static_cast<int64_t>(scope.variant.getRanks()) - 1;
    return failure(failed(verifyWeight(op, weight, scope)) ||
                   failed(verifyPlace(weight, weight.getOffset() + last * weight.getPerRank())));
  }
  auto ref = cast<TableRefAttr>(map.getSource());
  if (failed(verifyTableRef(op, ref, scope))) {
    return failure();
  }
  auto table = symbols.lookup<TableOp>(ref.getTable().getAttr());
  for (auto entry : table.getEntries().getAsRange<WeightAttr>()) {
    if (failed(verifyPlace(entry, entry.getOffset()))) {
      return failure();
    }
  }
  return success();
}

LogicalResult ProgramVerifier::verifyInside(Operation *op, Attribute operand, int64_t offset, ExtentAttr extent,
                                            ExtentAttr size, Scope &scope, bool isCallers) {
  if (scope.initializer && !extent.isConstant()) { // initializer_c6
    return op->emitOpError() << operand << " must not depend on sizes: an initializer runs outside of steps";
  }
  __int128 perCacheRow = static_cast<__int128>(size.getPerCacheRow()) - extent.getPerCacheRow();
  __int128 perSequence = static_cast<__int128>(size.getPerSequence()) - extent.getPerSequence();
  if (perCacheRow < 0 || perSequence + perCacheRow < 0) { // slice_c3
    return op->emitOpError() << operand << " must not grow faster with B and C than its buffer (" << size << ")";
  }
  for (int64_t tokens : {scope.minTokens, scope.maxTokens}) {
    for (int64_t rows : {tokens, isCallers ? int64_t(0) : tokens}) {
      __int128 end = offset + extent.evaluate(tokens, rows, 1, 1);
      __int128 limit = isCallers ? size.evaluate(tokens, rows, 1, 1)
                                 : size.evaluate(program.getMaxTokens(), program.getMaxTokens(), 1, 1);
      if (end > limit) { // slice_c3, span_c5
        return op->emitOpError() << operand << " must end inside its buffer: at T = " << tokens
                                 << (rows == tokens ? "" : " and M = 0") << " it ends at byte " << toText(end) << " of "
                                 << toText(limit);
      }
    }
  }
  return success();
}

LogicalResult ProgramOp::verifyRegions() { return ProgramVerifier(*this).verify(); }
