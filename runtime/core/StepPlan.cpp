// Resolving, binding and executing a step variant; see StepPlan.h.
#include "runtime/core/StepPlan.h"

#include "runtime/core/Checks.h"
#include "runtime/core/Regions.h"

#include <algorithm>

namespace moert {
namespace {

/// More would only make the search for conflicts at load longer.
constexpr uint32_t kMaxWave = 16;
/// Workgroups of one wave, a limit of the backends' counters.
constexpr int64_t kMaxGrid = INT32_MAX;

} // namespace

Result<StepPlan::Count> StepPlan::fold(const Context &context, const format::Extent &extent) const {
  int64_t atMax, fixed;
  Sizes sizes{maxTokens, maxTokens, context.sequences, context.context};
  if (!evaluate(extent, sizes, atMax) || !evaluate(extent, {0, 0, sizes.sequences, sizes.context}, fixed)) {
    return error(Code::InvalidArgument, "a size goes beyond 64 bits with ", context.sequences, " sequences of ",
                 context.context, " tokens: lower --sequences or --context");
  }
  return Count{fixed, extent.per_token(), extent.per_row()};
}

Result<uint64_t> StepPlan::resolve(const Context &context, const format::Operand &operand) {
  const uint32_t word = uint32_t(words.size());
  switch (operand.kind()) {
  case format::OperandKind::Slice:
    for (size_t a = 0; a < context.arguments.size(); ++a) {
      if (context.arguments[a] == operand.index()) {
        argumentPatches.push_back({word, uint32_t(a), operand.offset()});
        return uint64_t(0);
      }
    }
    if (const uint8_t *memory = context.buffers[operand.index()]) {
      return reinterpret_cast<uintptr_t>(memory) + operand.offset();
    }
    return uint64_t(0); // of a region
  case format::OperandKind::WeightSpan:
    return uint64_t(reinterpret_cast<uintptr_t>(context.weights.tensor(operand.index())) + operand.offset() +
                    uint64_t(context.place.rank) * operand.value());
  case format::OperandKind::WeightTable: {
    MOERT_ASSIGN(table, context.weights.table(operand.index()));
    return uint64_t(reinterpret_cast<uintptr_t>(table) +
                    uint64_t(context.place.rank) * operand.value() * sizeof(uint64_t));
  }
  case format::OperandKind::TensorMap: {
    MOERT_ASSIGN(maps, context.weights.tensorMaps(context.variant, operand.index(), context.place));
    return uint64_t(reinterpret_cast<uintptr_t>(maps));
  }
  case format::OperandKind::Constant:
    return operand.value();
  case format::OperandKind::Size:
    switch (format::Dim(operand.value())) {
    case format::Dim::T:
    case format::Dim::M:
      patches.push_back({word, format::Dim(operand.value())});
      return uint64_t(0);
    case format::Dim::B:
      return uint64_t(context.sequences);
    case format::Dim::C:
      return uint64_t(context.context);
    case format::Dim::Tmax:
      return uint64_t(context.program.root().max_tokens());
    case format::Dim::Ranks:
      return uint64_t(context.place.ranks);
    case format::Dim::Rank:
      return uint64_t(context.place.rank);
    }
  }
  return uint64_t(0);
}

int64_t StepPlan::gridOf(const GridRule &rule, int64_t tokens, int64_t rows) {
  int64_t units = rule.units.at(tokens, rows);
  int64_t groups = units / rule.divisor + (units % rule.divisor != 0);
  if (rule.cap) {
    groups = std::min(groups, rule.cap);
  }
  int64_t total;
  return __builtin_mul_overflow(groups, rule.factor, &total) ? INT64_MAX : total;
}

Status StepPlan::addCommand(const Context &context, uint32_t index, std::vector<uint32_t> &firstWords) {
  const format::Command &command = *context.variant.commands()->Get(index);
  const auto firstWord = uint32_t(words.size());
  for (uint32_t o = 0; o < command.operand_count(); ++o) {
    MOERT_ASSIGN(word, resolve(context, *context.variant.operands()->Get(command.first_operand() + o)));
    words.push_back(word);
  }
  switch (command.kind()) {
  case format::CommandKind::Launch: {
    const format::Grid &grid = command.grid();
    MOERT_ASSIGN(units, fold(context, grid.units()));
    GridRule rule{units, grid.divisor(), grid.cap(), grid.factor()};
    const int64_t most = gridOf(rule, maxTokens, maxTokens);
    if (most > kMaxGrid) {
      return error(Code::Unsupported, describeCommand(context.program.root(), context.variant, index), " has ", most,
                   " workgroups at T = ", maxTokens, ", at most ", kMaxGrid, " are run: lower --max-tokens");
    }
    const auto launch = uint32_t(launches.size());
    if (units.changes()) {
      movingGrids.push_back(launch);
    }
    launches.push_back({context.kernels[command.target()], nullptr, command.operand_count(), gridOf(rule, 0, 0)});
    grids.push_back(rule);
    launchCommands.push_back(index);
    firstWords.push_back(firstWord);

    bool isPick = false;
    for (uint32_t o = 0; picks != kNoBuffer && o < command.operand_count(); ++o) {
      const format::Operand &operand = *context.variant.operands()->Get(command.first_operand() + o);
      isPick |= operand.kind() == format::OperandKind::Slice && operand.index() == picks;
    }
    // Join the wave before it if nothing in there touches what this one does.
    bool joins = !actions.empty() && actions.back().kind == ActionKind::Launches && actions.back().count < kMaxWave &&
                 actions.back().isPick == isPick && actions.back().stream == command.stream();
    if (joins) {
      const Action &wave = actions.back();
      int64_t total = most;
      for (uint32_t i = 0; joins && i < wave.count; ++i) {
        total += gridOf(grids[wave.first + i], maxTokens, maxTokens);
        const format::Command &other = *context.variant.commands()->Get(launchCommands[wave.first + i]);
        joins = total <= kMaxGrid && areIndependent(context.variant, other, command, maxTokens);
      }
    }
    if (joins) {
      ++actions.back().count;
    } else {
      actions.push_back({ActionKind::Launches, command.stream(), index, launch, 1, isPick});
      ++waves;
    }
    return {};
  }
  case format::CommandKind::Copy:
  case format::CommandKind::Fill: {
    const format::Operand &to = *context.variant.operands()->Get(command.first_operand());
    MOERT_ASSIGN(bytes, fold(context, to.extent()));
    auto transfer = uint32_t(transfers.size());
    transfers.push_back({firstWord, command.operand_count() > 1 ? firstWord + 1 : firstWord, bytes,
                         uint64_t(bytes.at(0, 0)), uint8_t(command.value())});
    const bool isCopy = command.kind() == format::CommandKind::Copy;
    actions.push_back({isCopy ? ActionKind::Copy : ActionKind::Fill, command.stream(), index, transfer, 1});
    return {};
  }
  case format::CommandKind::Collective:
    return addCollective(context, index, firstWord);
  case format::CommandKind::Record:
    actions.push_back({ActionKind::Record, command.stream(), index, command.target(), 1});
    return {};
  case format::CommandKind::Wait:
    actions.push_back({ActionKind::Wait, command.stream(), index, command.target(), 1});
    return {};
  case format::CommandKind::GroupBegin:
  case format::CommandKind::GroupEnd:
    return {}; // a hint: what may be handed over together is found without it
  case format::CommandKind::HostCall:
    break;
  }
  return error(Code::Internal, describeCommand(context.program.root(), context.variant, index),
               ": was let through by the checks");
}

Status StepPlan::addCollective(const Context &context, uint32_t index, uint32_t firstWord) {
  const format::Command &command = *context.variant.commands()->Get(index);
  auto operand = [&](uint32_t o) -> const format::Operand & {
    return *context.variant.operands()->Get(command.first_operand() + o);
  };
  MOERT_ASSIGN(to, fold(context, operand(0).extent()));
  MOERT_ASSIGN(from, fold(context, operand(command.operand_count() > 1 ? 1 : 0).extent()));
  CollectiveCall call;
  call.kind = format::CollectiveKind(command.target());
  call.name = context.program.string(command.name());
  if (call.kind == format::CollectiveKind::Exchange) {
    exchanges = true;
    call.rowBytes = command.value();
  } else if (command.value() == uint64_t(format::DType::BF16)) {
    call.element = format::DType::BF16;
  }
  // Join the collectives just before it if nothing in there touches what this one does.
  const auto place = uint32_t(collectives.size());
  bool joins =
      !actions.empty() && actions.back().kind == ActionKind::Collective && actions.back().stream == command.stream();
  for (uint32_t i = 0; joins && i < actions.back().count; ++i) {
    const format::Command &other = *context.variant.commands()->Get(collectives[actions.back().first + i].command);
    joins = areIndependent(context.variant, other, command, maxTokens);
  }
  collectives.push_back({index, firstWord, command.operand_count(), to, from});
  calls.push_back(call);
  if (call.kind == format::CollectiveKind::Exchange) {
    pairExchange(context, place);
  }
  if (joins) {
    ++actions.back().count;
  } else {
    actions.push_back({ActionKind::Collective, command.stream(), index, place, 1});
  }
  return {};
}

/// Who sends rows somewhere and wants them back knows both counts at once. Where the host has to wait for counts, one
/// wait serves both: an exchange takes along the counts of a later one that nothing writes any more.
void StepPlan::pairExchange(const Context &context, uint32_t exchange) {
  uint32_t earlier = exchange;
  while (earlier-- > 0) {
    if (calls[earlier].kind == format::CollectiveKind::Exchange && !calls[earlier].areCountsKnown) {
      break;
    }
  }
  if (earlier >= exchange || collectives[earlier].later != Together::kNone) {
    return;
  }
  const auto &commands = *context.variant.commands();
  const format::Command &own = *commands.Get(collectives[exchange].command);
  for (uint32_t c = collectives[earlier].command; c < collectives[exchange].command; ++c) {
    if (writesTo(context.variant, *commands.Get(c), own, Together::kCounts, maxTokens)) {
      return;
    }
  }
  collectives[earlier].later = exchange;
  calls[exchange].areCountsKnown = true;
}

Result<StepPlan> StepPlan::create(const Context &context, const format::StepVariant &step) {
  StepPlan plan;
  plan.minTokens = step.min_tokens();
  plan.maxTokens = step.max_tokens();
  plan.picks = picksBuffer(context.program.root(), context.variant);
  plan.boundArguments.resize(context.arguments.size());
  std::vector<uint32_t> firstWords;
  for (uint32_t c = 0; c < step.command_count(); ++c) {
    MOERT_TRY(plan.addCommand(context, step.first_command() + c, firstWords));
  }
  if (context.separate) {
    MOERT_TRY(plan.addRegions(context, step));
  }
  for (size_t i = 0; i < plan.launches.size(); ++i) {
    plan.launches[i].args = plan.words.data() + firstWords[i];
  }
  return plan;
}

/// Values in arenas, and inputs: each of those is one.
Status StepPlan::addRegions(const Context &context, const format::StepVariant &step) {
  const Regions found = findRegions(context.variant, step, {maxTokens, maxTokens, context.sequences, context.context});
  for (const Regions::Region &region : found.all) {
    regions.push_back({region.buffer, {}});
    for (const Regions::Part &part : region.parts) {
      MOERT_ASSIGN(count, fold(context, part.extent));
      regions.back().parts.push_back({part.offset, count});
    }
  }
  uint32_t word = 0; // every operand of every command has one, in order
  for (uint32_t c = 0; c < step.command_count(); ++c) {
    const format::Command &command = *context.variant.commands()->Get(step.first_command() + c);
    for (uint32_t o = 0; o < command.operand_count(); ++o, ++word) {
      const format::Operand &operand = *context.variant.operands()->Get(command.first_operand() + o);
      if (const uint32_t region = found.ofOperand[c][o]; region != Regions::kNone) {
        regionPatches.push_back({word, region, operand.offset() - found.all[region].begin});
        continue;
      }
      if (operand.kind() != format::OperandKind::Slice || context.buffers[operand.index()] ||
          std::count(context.arguments.begin(), context.arguments.end(), operand.index())) {
        continue;
      }
      const auto known = std::find_if(regions.begin(), regions.end(),
                                      [&](const Region &region) { return region.buffer == operand.index(); });
      regionPatches.push_back({word, uint32_t(known - regions.begin()), operand.offset()});
      if (known == regions.end()) {
        MOERT_ASSIGN(count, fold(context, context.variant.buffers()->Get(operand.index())->size()));
        regions.push_back({operand.index(), {{0, count}}});
      }
    }
  }
  return {};
}

uint64_t StepPlan::regionBytes(size_t region, int64_t tokens, int64_t rows) const {
  uint64_t bytes = 0;
  for (const auto &[offset, count] : regions[region].parts) {
    bytes = std::max(bytes, offset + uint64_t(count.at(tokens, rows)));
  }
  return bytes;
}

void StepPlan::placeRegions(const std::vector<void *> &memory) {
  for (const RegionPatch &patch : regionPatches) {
    words[patch.word] = reinterpret_cast<uintptr_t>(memory[patch.region]) + patch.offset;
  }
}

void StepPlan::bind(int64_t tokens, int64_t rows, const std::vector<void *> &arguments) {
  if (arguments != boundArguments) {
    for (const ArgumentPatch &patch : argumentPatches) {
      words[patch.word] = reinterpret_cast<uintptr_t>(arguments[patch.argument]) + patch.offset;
    }
    std::copy(arguments.begin(), arguments.end(), boundArguments.begin());
  }
  if (tokens == boundTokens && rows == boundRows) {
    return;
  }
  for (const Patch &patch : patches) {
    words[patch.word] = uint64_t(patch.dim == format::Dim::T ? tokens : rows);
  }
  for (uint32_t launch : movingGrids) {
    launches[launch].grid = gridOf(grids[launch], tokens, rows);
  }
  for (Transfer &transfer : transfers) {
    transfer.now = uint64_t(transfer.bytes.at(tokens, rows));
  }
  for (size_t i = 0; i < calls.size(); ++i) {
    calls[i].toBytes = uint64_t(collectives[i].to.at(tokens, rows));
    calls[i].fromBytes = uint64_t(collectives[i].from.at(tokens, rows));
  }
  boundTokens = tokens;
  boundRows = rows;
}

bool StepPlan::perform(Backend &backend, const Action &action) {
  if (action.kind == ActionKind::Launches) {
    return backend.launch(&launches[action.first], action.count, action.stream);
  }
  if (action.kind == ActionKind::Record) {
    return backend.record(action.first, action.stream);
  }
  if (action.kind == ActionKind::Wait) {
    return backend.wait(action.first, action.stream);
  }
  if (action.kind == ActionKind::Collective) {
    return performTogether(backend, action);
  }
  const Transfer &transfer = transfers[action.first];
  void *to = reinterpret_cast<void *>(words[transfer.to]);
  const void *from = reinterpret_cast<const void *>(words[transfer.from]);
  return action.kind == ActionKind::Copy ? backend.copy(to, from, transfer.now, action.stream)
                                         : backend.fill(to, transfer.value, transfer.now, action.stream);
}

bool StepPlan::performTogether(Backend &backend, const Action &action) {
  for (uint32_t i = action.first; i < action.first + action.count; ++i) {
    const Together &together = collectives[i];
    auto pointer = [&](uint32_t operand) { return reinterpret_cast<void *>(words[together.word + operand]); };
    calls[i].to = pointer(0);
    calls[i].from = pointer(together.operands > 1 ? 1 : 0);
    if (calls[i].kind == format::CollectiveKind::Exchange) {
      calls[i].received = static_cast<int32_t *>(pointer(2));
      calls[i].counts = static_cast<const int32_t *>(pointer(Together::kCounts));
      if (together.later != Together::kNone) {
        const uint64_t later = words[collectives[together.later].word + Together::kCounts];
        calls[i].laterCounts = reinterpret_cast<const int32_t *>(later);
      }
    }
  }
  return backend.collectives(&calls[action.first], action.count, action.stream);
}

bool StepPlan::execute(Backend &backend, Trace &trace, bool isPicking, uint32_t &failed) {
  if (trace.enabled()) {
    return executeTraced(backend, trace, isPicking, failed);
  }
  for (const Action &action : actions) {
    failed = action.command;
    if ((isPicking || !action.isPick) && !perform(backend, action)) {
      return false;
    }
  }
  return true;
}

/// One command at a time, so that every command has a time of its own.
bool StepPlan::executeTraced(Backend &backend, Trace &trace, bool isPicking, uint32_t &failed) {
  for (const Action &action : actions) {
    if ((action.isPick && !isPicking) || action.kind == ActionKind::Record || action.kind == ActionKind::Wait) {
      continue; // one command at a time needs no events
    }
    const bool isLaunch = action.kind == ActionKind::Launches, isCollective = action.kind == ActionKind::Collective;
    for (uint32_t i = 0; i < (isLaunch || isCollective ? action.count : 1); ++i) {
      Action single = action;
      if (isLaunch || isCollective) {
        single.command = isLaunch ? launchCommands[action.first + i] : collectives[action.first + i].command;
        single.first += i;
        single.count = 1;
      }
      const int64_t begin = monotonicNs();
      failed = single.command;
      if (!perform(backend, single) || !backend.synchronize()) {
        return false;
      }
      trace.add(single.command, boundTokens, isLaunch ? launches[single.first].grid : 0, begin, monotonicNs());
    }
  }
  return true;
}

} // namespace moert
