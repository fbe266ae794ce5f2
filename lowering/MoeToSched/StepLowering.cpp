//===- StepLowering.cpp - One entry as a list of commands -------------------===//
//
// Buffers, fusion decisions, launches and the plan; the ops are in LowerOps.cpp.
//
//===----------------------------------------------------------------------===//

#include "lowering/MoeToSched/StepLowering.h"
#include "dialects/Moe/IR/MoeRanks.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "llvm/ADT/TypeSwitch.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;
using namespace mlir::moe;

StepLowering::StepLowering(func::FuncOp step, VariantContext &context, Type logitsType, TokenRange range)
    : step(step), isStep(step.getSymName() == "step" || step->hasAttr(kStepFromAttr)), context(context),
      mlir(step.getContext()), logitsType(logitsType), range(range), many(range.many),
      ranks(getRanks(step->getParentOfType<ModuleOp>())) {}

//===----------------------------------------------------------------------===//
// Buffers
//===----------------------------------------------------------------------===//

int StepLowering::newBuffer(sched::ExtentAttr extent, StringRef symbol) {
  buffers.push_back({symbol.str(), extent});
  return static_cast<int>(buffers.size()) - 1;
}

sched::ExtentAttr StepLowering::perRow(Rows rows, int64_t amount, int64_t fixed) {
  return rows == Rows::Logits ? sched::ExtentAttr::get(mlir, fixed, 0, amount)
                              : sched::ExtentAttr::get(mlir, fixed, amount * rowFactor(rows));
}

sched::GridAttr StepLowering::gridPerRow(Rows rows, int64_t divisor, int64_t factor) {
  return sched::GridAttr::get(perRow(rows, 1), divisor, /*cap=*/0, factor);
}

sched::ExtentAttr StepLowering::bytesOf(Value value) {
  auto type = cast<RankedTensorType>(value.getType());
  int64_t rowBytes = byteWidth(type.getElementType());
  for (int64_t size : type.getShape().drop_front()) {
    rowBytes *= size;
  }
  return perRow(rowsOf(value), rowBytes);
}

/// A new buffer for the tensor `value`: an output for a result of the entry, else a place in the arena.
int StepLowering::tensorBuffer(Value value) {
  auto result = results.find(value);
  int buffer = newBuffer(bytesOf(value), result == results.end() ? "" : result->second);
  values[value] = buffer;
  return buffer;
}

template <typename T> int StepLowering::constantBuffer(ArrayRef<T> data) {
  std::string bytes(reinterpret_cast<const char *>(data.data()), data.size() * sizeof(T));
  auto [entry, isNew] = context.constants.insert({bytes, ""});
  if (isNew) {
    entry->second = "constant." + std::to_string(context.constants.size() - 1);
  }
  return newBuffer(fixedExtent(static_cast<int64_t>(bytes.size())), entry->second);
}
template int StepLowering::constantBuffer(ArrayRef<float>);
template int StepLowering::constantBuffer(ArrayRef<int32_t>);

int StepLowering::counterBuffer(std::string name, int64_t count) {
  if (!isStep) {
    name = (step.getSymName() + "." + name).str();
  }
  context.counters[name] = count * 8;
  return newBuffer(fixedExtent(count * 8), name);
}

//===----------------------------------------------------------------------===//
// Fusion
//===----------------------------------------------------------------------===//

/// An add of `value` with something that exists already becomes part of the launch that makes `value`.
StepLowering::Fused StepLowering::fuseResidual(Value value) {
  if (!value.hasOneUse()) {
    return {value, {}};
  }
  auto add = dyn_cast<AddOp>(*value.user_begin());
  if (!add) {
    return {value, {}};
  }
  Value other = add.getLhs() == value ? add.getRhs() : add.getLhs();
  const bool ready = other != value && values.contains(other); // was lowered before
  bool allF32 = llvm::all_of(ValueRange{value, other, add.getResult()},
                             [](Value v) { return getElementTypeOrSelf(v.getType()).isF32(); });
  if (!ready || !allF32) {
    return {value, {}};
  }
  done.insert(add);
  return {add.getResult(), other};
}

//===----------------------------------------------------------------------===//
// Commands
//===----------------------------------------------------------------------===//

std::string StepLowering::labelOf(Operation *op, StringRef part) {
  std::string label = op->getName().stripDialect().str();
  if (auto name = op->getLoc()->findInstanceOf<NameLoc>()) {
    label = name.getName().str();
  }
  return part.empty() || part == label ? label : label + "." + part.str();
}

LogicalResult StepLowering::launch(Operation *op, StringRef part, const kernels::Kernel &kernel, sched::GridAttr grid,
                                   ArrayRef<Operand> operands) {
  if (std::string reason = context.kernels.whyNot(kernel, 0); !reason.empty()) {
    return op->emitOpError(reason);
  }
  commands.push_back({context.kernels.use(kernel), grid, SmallVector<Operand>(operands), labelOf(op, part)});
  commands.back().isProduct = std::holds_alternative<kernels::Matmul>(kernel);
  return success();
}

LogicalResult StepLowering::lower(Operation &op) {
  if (done.contains(&op)) {
    return success();
  }
  return llvm::TypeSwitch<Operation *, LogicalResult>(&op)
      .Case<GetWeightOp, PartOp, ConcatOp, FloorMagnitudeOp, PadOp, PlaceOp, ProductOp, ScaleOp, ShardOp, SumOp>(
          [](auto) { return success(); }) // operands of the ops that use them
      .Case([&](EmbeddingOp o) { return lowerEmbedding(o); })
      .Case([&](GatherRowsOp o) { return lowerGatherRows(o); })
      .Case([&](AddOp o) { return lowerAdd(o); })
      .Case([&](RMSNormOp o) { return lowerNorm(o); })
      .Case([&](LinearOp o) { return lowerLinear(o); })
      .Case([&](FFNOp o) { return lowerFFN(o); })
      .Case([&](RopeOp o) { return lowerRope(o); })
      .Case([&](AttentionOp o) { return lowerAttention(o); })
      .Case([&](RouteOp o) { return lowerRoute(o); })
      .Case([&](ExpertsOp o) { return lowerExperts(o); })
      .Case([&](CombineOp o) { return lowerCombine(o); })
      .Case([&](MaskPaddingOp o) { return lowerMaskPadding(o); })
      .Case([&](LocalizeOp o) { return lowerLocalize(o); })
      .Case([&](AllReduceOp o) { return lowerExchange(o, "all_reduce", sched::CollectiveKind::AllReduceSum); })
      .Case([&](AllGatherOp o) { return lowerExchange(o, "all_gather", sched::CollectiveKind::AllGather); })
      .Case([&](ReduceScatterOp o) {
        return lowerExchange(o, "reduce_scatter", sched::CollectiveKind::ReduceScatterSum);
      })
      .Case([&](DispatchOp o) { return lowerDispatch(o); })
      .Case([&](CollectOp o) { return lowerCollect(o); })
      .Case([&](func::ReturnOp o) { return lowerReturn(o); })
      .Default([](Operation *o) {
        return o->emitOpError("has no kernel; lower it to moe ops first, or use the linalg path (--emit linalg)");
      });
}

/// Gives the arguments and results of the entry their buffers.
LogicalResult StepLowering::bindInterface() {
  // Inputs in the order of the signature (docs/spec.md).
  sched::ExtentAttr perToken = sched::ExtentAttr::perTokens(mlir, 4);
  const std::pair<StringRef, sched::ExtentAttr> inputs[] = {{"tokens", perToken},
                                                            {"seq", perToken},
                                                            {"pos", perToken},
                                                            {"runs", sched::ExtentAttr::get(mlir, 4, 0, 0, 4)},
                                                            {"rows", sched::ExtentAttr::perRows(mlir, 4)}};
  for (auto [argument, input] : llvm::zip(step.getArguments(), inputs)) {
    values[argument] = newBuffer(input.second, input.first);
  }
  for (auto [i, argument] : llvm::enumerate(step.getArguments().drop_front(std::size(inputs)))) {
    arguments.push_back({llvm::formatv("{0}.in{1}", step.getSymName(), i).str(), bytesOf(argument), true});
    values[argument] = newBuffer(arguments.back().size, arguments.back().buffer);
  }
  auto terminator = cast<func::ReturnOp>(step.getBody().front().getTerminator());
  for (auto [i, value] : llvm::enumerate(terminator.getOperands())) {
    const bool isLogits = isStep || (rowsOf(value) == Rows::Logits && value.getType() == logitsType);
    std::string name = isLogits ? "logits" : llvm::formatv("{0}.out{1}", step.getSymName(), i).str();
    if (!value.getDefiningOp() || !results.try_emplace(value, name).second) {
      return terminator.emitOpError("returns ") << value.getType() << " that is an argument or returned twice; @"
                                                << step.getSymName() << " must compute every result";
    }
    arguments.push_back({name, bytesOf(value), false});
  }
  return success();
}

/// The step's result must be what the C ABI calls logits. Behind it comes what a greedy choice needs of them, which the
/// runtime leaves out where the caller wants the logits themselves.
LogicalResult StepLowering::lowerReturn(func::ReturnOp op) {
  Value logits = op.getOperand(0);
  if (isStep && (rowsOf(logits) != Rows::Logits || !getElementTypeOrSelf(logits.getType()).isF32())) {
    return op.emitOpError("returns ") << logits.getType()
                                      << "; the runtime needs f32 logits with one row per element of rows";
  }
  if (!isStep || !context.kernels.picks()) {
    return success();
  }
  const std::string state = "picks";
  context.counters[state] = std::max(context.counters[state], 4 * range.last);
  return launch(logits.getDefiningOp(), "pick", kernels::Pick{}, gridPerRow(Rows::Logits),
                {read(logits), write(newBuffer(sched::ExtentAttr::perRows(mlir, 4), state)),
                 constant(cast<RankedTensorType>(logits.getType()).getDimSize(1))});
}

LogicalResult StepLowering::run() {
  if (failed(check()) || failed(bindInterface())) {
    return failure();
  }
  for (Operation *op : opsInOrder()) {
    if (failed(lower(*op))) {
      return failure();
    }
  }
  planStreams();
  planArena();
  return success();
}

//===----------------------------------------------------------------------===//
// Streams and the arena
//===----------------------------------------------------------------------===//

/// Of few tokens much of a layer's time goes by in kernels that leave most of the GPU idle; so it does where ranks wait
/// for each other. Products of many tokens on one GPU fill it by themselves.
bool StepLowering::usesStreams() const {
  return context.streams > 1 && (ranks > 1 || range.last <= context.kernels.someTokens());
}

/// The order of the block, but that an FFN which may run beside experts before it is lowered as soon as its input is
/// there: what adds both results is then part of the experts' last launch, not of the FFN's, which would wait for it.
SmallVector<Operation *> StepLowering::opsInOrder() {
  llvm::DenseMap<Operation *, SmallVector<Operation *>> early; // by the op that each comes behind
  SmallVector<Operation *> order;
  llvm::DenseSet<Operation *> moved;
  Operation *experts = nullptr;
  for (Operation &op : step.getBody().front()) {
    if (isa<ExpertsOp>(op)) {
      experts = &op;
    }
    auto ffn = dyn_cast<FFNOp>(op); // its weights are at hand anywhere
    if (!ffn || !usesStreams() || !experts) {
      continue;
    }
    Operation *input = ffn.getX().getDefiningOp(); // none: an argument
    if (!input || input->isBeforeInBlock(experts)) {
      early[input].push_back(&op);
      moved.insert(&op);
    }
  }
  llvm::append_range(order, early.lookup(nullptr));
  for (Operation &op : step.getBody().front()) {
    if (!moved.contains(&op)) {
      order.push_back(&op);
    }
    llvm::append_range(order, early.lookup(&op));
  }
  return order;
}

void StepLowering::planStreams() {
  if (!usesStreams()) {
    return;
  }
  llvm::StringMap<int> symbols; // the numbers that share a buffer outside of the arena
  SmallVector<StreamedCommand> streamed;
  for (const Command &command : commands) {
    StreamedCommand &own = streamed.emplace_back();
    own.endsExperts = command.endsExperts;
    own.isProduct = command.isProduct;
    own.isCollective = command.collective.has_value();
    for (const Operand &operand : command.operands) {
      if (operand.fixed) {
        continue;
      }
      const std::string &symbol = buffers[operand.buffer].symbol;
      const int buffer = symbol.empty() ? operand.buffer : symbols.try_emplace(symbol, operand.buffer).first->second;
      own.accesses.push_back({buffer, operand.access != sched::Access::Read});
    }
  }
  sideWork = planSideWork(streamed);
}

/// Values live from the first command that mentions them to the last. One that runs beside others may do so at any time
/// between those that it is ordered with.
void StepLowering::planArena() {
  const auto count = static_cast<int64_t>(commands.size());
  SmallVector<std::pair<int64_t, int64_t>> times(commands.size());
  for (int64_t i = 0; i < count; ++i) {
    times[i] = {i, i};
  }
  for (const SideWork &work : sideWork) {
    for (int64_t own : work.commands) {
      times[own] = {work.after + 1, work.before - 1};
    }
  }
  SmallVector<PlannedValue> lives(buffers.size());
  SmallVector<bool> seen(buffers.size(), false);
  for (auto [time, command] : llvm::zip_equal(times, commands)) {
    for (const Operand &operand : command.operands) {
      if (operand.buffer < 0 || !buffers[operand.buffer].symbol.empty()) {
        continue;
      }
      PlannedValue &life = lives[operand.buffer];
      if (!seen[operand.buffer]) {
        seen[operand.buffer] = true;
        life.bytes = static_cast<int64_t>(buffers[operand.buffer].extent.evaluate(range.last, range.last, 0, 0));
        life.firstCommand = time.first;
      }
      life.firstCommand = std::min(life.firstCommand, time.first);
      life.lastCommand = std::max(life.lastCommand, time.second);
    }
  }
  plan = planBuffers(lives);
}

void StepLowering::emit(OpBuilder &builder, const Command &command, int64_t stream) {
  SmallVector<Attribute> operands;
  for (const Operand &operand : command.operands) {
    if (operand.fixed) {
      operands.push_back(operand.fixed);
      continue;
    }
    const Buffer &buffer = buffers[operand.buffer];
    bool inArena = buffer.symbol.empty();
    operands.push_back(sched::SliceAttr::get(operand.access, inArena ? StringRef("arena") : StringRef(buffer.symbol),
                                             inArena ? plan.offsets[operand.buffer] : 0, buffer.extent));
  }
  if (command.collective) {
    sched::CollectiveOp::create(builder, step.getLoc(), *command.collective, command.element, command.rowBytes,
                                operands, command.label, stream);
  } else if (command.kernel.empty()) {
    sched::FillOp::create(builder, step.getLoc(), operands.front(), 0, command.label, stream);
  } else {
    sched::LaunchOp::create(builder, step.getLoc(), command.kernel, command.grid, operands, command.label, stream);
  }
}

/// What runs beside others is handed over first, as soon as what it needs is: the host may have to wait among those.
void StepLowering::emit(OpBuilder &builder) {
  const auto count = static_cast<int64_t>(commands.size());
  SmallVector<bool> isBeside(commands.size(), false);
  for (const SideWork &work : sideWork) {
    for (int64_t own : work.commands) {
      isBeside[own] = true;
    }
  }
  auto record = [&](int64_t event, int64_t stream) {
    sched::RecordOp::create(builder, step.getLoc(), event, "", stream);
  };
  auto wait = [&](int64_t event, int64_t stream) { sched::WaitOp::create(builder, step.getLoc(), event, "", stream); };
  for (int64_t i = -1; i <= count; ++i) {
    for (auto [number, work] : llvm::enumerate(sideWork)) {
      if (work.before == i) {
        wait(2 * number + 1, 0);
      }
    }
    if (i >= 0 && i < count && !isBeside[i]) {
      emit(builder, commands[i], 0);
    }
    for (auto [number, work] : llvm::enumerate(sideWork)) {
      if (work.after != i) {
        continue;
      }
      if (i >= 0) {
        record(2 * number, 0);
        wait(2 * number, 1);
      }
      for (int64_t own : work.commands) {
        emit(builder, commands[own], 1);
      }
      record(2 * number + 1, 1);
    }
  }
}
