//===- Grid.cpp - Programs, launches and the turns of warps ----------------===//
//
// Loads modules, starts blocks in ascending order, gives each warp its turn and
// lands asynchronous work when its time has come. A deadlock is declared when
// nobody can go on and nothing is pending.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/exec/Launch.h"
#include "runtime/emulator/exec/Warp.h"

#include <algorithm>
#include <cstring>

namespace moert::emulator {

using ptx::Space;
using ptx::SpecialRegister;

Grid::~Grid() = default;
Program::Program() = default;

Program::~Program() {
  for (const ProgramVariable &variable : globals) {
    space->free(variable.address);
  }
}

Result<std::unique_ptr<Program>> Program::load(const ptx::Module &module, DeviceMemory &memory, uint32_t device) {
  std::unique_ptr<Program> program(new Program);
  program->source = &module;
  program->space = &memory;
  program->deviceIndex = device;
  program->translated = std::make_unique<Code>();
  Code &code = *program->translated;
  code.variableAddress.resize(module.variables.size());
  for (size_t i = 0; i < module.variables.size(); ++i) {
    const ptx::Variable &variable = module.variables[i];
    if (variable.space != Space::Global && variable.space != Space::Const) {
      continue;
    }
    uint64_t size = std::max<uint64_t>(variable.size, 1);
    uint64_t address = memory.allocate(device, size, AllocationKind::Module, variable.name);
    if (!address) {
      return moert::error(moert::Code::OutOfMemory, "variable ", variable.name, " of ", size,
                          " bytes does not fit on device ", device);
    }
    code.variableAddress[i] = address;
    program->globals.push_back({variable.name, address, variable.size});
    uint8_t *bytes = memory.bytes(address, size);
    std::copy_n(variable.data.begin(), std::min<uint64_t>(variable.data.size(), size), bytes); // data may be empty
    memory.setDefined(address, size);
    memory.find(address)->readOnly = variable.space == Space::Const;
  }
  for (size_t i = 0; i < module.variables.size(); ++i) {
    const ptx::Variable &variable = module.variables[i];
    for (const ptx::Relocation &relocation : variable.relocations) {
      uint8_t *bytes = memory.bytes(code.variableAddress[i] + relocation.offset, relocation.size);
      if (!bytes) {
        return moert::error(moert::Code::InvalidArgument, "line ", variable.location.line, ": the initialiser of ",
                            variable.name, " reaches past its end");
      }
      uint64_t value = relocation.function ? functionAddress(relocation.target)
                                           : code.variableAddress[relocation.target] + uint64_t(relocation.addend);
      value >>= relocation.shift;
      std::memcpy(bytes, &value, relocation.size);
    }
  }
  MOERT_TRY(translate(module, code));
  for (FunctionCode &function : code.functions) {
    std::vector<uint32_t> lines;
    for (const Op &op : function.ops) {
      lines.push_back(op.inst ? op.inst->location.line : 0);
    }
    uint32_t site = memory.addSites(function.function->name, lines);
    for (size_t i = 0; i < function.ops.size(); ++i) {
      function.ops[i].site = site + uint32_t(i);
    }
    if (!function.function->isKernel || !function.function->isDefined) {
      continue;
    }
    Kernel kernel;
    kernel.program = program.get();
    kernel.function = function.function;
    kernel.functionIndex = function.index;
    kernel.staticShared = function.function->sharedBytes;
    kernel.parameterBytes = uint32_t(function.function->parameterBytes);
    kernel.localBytes = function.function->localBytes;
    for (const ptx::Register &r : function.function->registers) {
      kernel.registers += r.type == ptx::Type::Pred ? 0 : (ptx::bitsOf(r.type) + 31) / 32;
    }
    // PTX registers are not allocated yet; a card has 255 and an allocator reuses most.
    kernel.registers = std::min(255U, std::max(16U, kernel.registers / 4));
    program->all.push_back(kernel);
  }
  return program;
}

const Kernel *Program::kernel(std::string_view name) const {
  for (const Kernel &kernel : all) {
    if (kernel.function->name == name) {
      return &kernel;
    }
  }
  return nullptr;
}

const ProgramVariable *Program::variable(std::string_view name) const {
  for (const ProgramVariable &variable : globals) {
    if (variable.name == name) {
      return &variable;
    }
  }
  return nullptr;
}

Result<std::unique_ptr<GridState>> GridState::make(const Kernel &kernel, const LaunchConfig &config,
                                                   const ExecOptions &options, FindingSink &sink,
                                                   const GridState *partOf) {
  const ptx::Function &function = *kernel.function;
  const std::string where = "kernel " + function.name + ": ";
  uint64_t threads = config.block.count();
  if (threads == 0 || threads > 1024 || config.grid.count() == 0) {
    return moert::error(moert::Code::InvalidArgument, where, threads, " threads per block in ", config.grid.count(),
                        " blocks; a block has 1 to 1024 threads");
  }
  if (config.parameters.size() != kernel.parameterBytes) {
    return moert::error(moert::Code::InvalidArgument, where, config.parameters.size(),
                        " bytes of parameters, it takes ", kernel.parameterBytes);
  }
  const uint32_t block[3] = {config.block.x, config.block.y, config.block.z};
  for (int i = 0; i < 3; ++i) {
    if (function.bounds.reqntid[0] && block[i] != std::max(1U, function.bounds.reqntid[i])) {
      return moert::error(moert::Code::InvalidArgument, where, "block dimension ", i, " is ", block[i],
                          ", .reqntid says ", function.bounds.reqntid[i]);
    }
  }
  if (function.bounds.maxntid[0]) {
    uint64_t most = uint64_t(function.bounds.maxntid[0]) * std::max(1U, function.bounds.maxntid[1]) *
                    std::max(1U, function.bounds.maxntid[2]);
    if (threads > most) {
      return moert::error(moert::Code::InvalidArgument, where, threads, " threads per block, .maxntid allows ", most);
    }
  }
  if (config.grid.x % config.cluster.x || config.grid.y % config.cluster.y || config.grid.z % config.cluster.z) {
    return moert::error(moert::Code::InvalidArgument, where, "the grid is no multiple of the cluster");
  }
  auto grid = std::make_unique<GridState>();
  GridState &g = *grid;
  g.kernel = &kernel;
  g.code = &kernel.program->code();
  g.memory = &kernel.program->memory();
  g.sink = &sink;
  g.config = config;
  g.options = options;
  g.options.checks = options.checks && g.memory->options().checks;
  g.random.seed(options.seed * 0x9E3779B97F4A7C15ULL + 1);
  g.constants = g.code->constants;
  g.constants.resize(g.constants.size() + 64);
  g.sharedBytes = kernel.staticShared + config.dynamicShared;
  uint32_t align = std::max(function.dynamicSharedAlign, 16U);
  uint32_t dynamicStart = (kernel.staticShared + align - 1) / align * align;
  if (config.dynamicShared) {
    g.sharedBytes = dynamicStart + config.dynamicShared;
  }
  if (g.code->reservedShared) {
    g.reservedAt = g.sharedBytes / 128 * 128 + 256; // not next to the kernel's own, whose end is watched
  }
  g.ownsMemory = !partOf;
  if (partOf) {
    g.parameterAddress = partOf->parameterAddress;
    g.workspace = partOf->workspace;
  } else if (g.code->parametersInMemory && !config.parameters.empty()) {
    g.parameterAddress = g.memory->allocate(kernel.program->device(), config.parameters.size(), AllocationKind::Module,
                                            function.name + "'s parameters");
    if (!g.parameterAddress) {
      return moert::error(moert::Code::OutOfMemory, where, "no memory for its parameters");
    }
    std::memcpy(g.memory->bytes(g.parameterAddress, config.parameters.size()), config.parameters.data(),
                config.parameters.size());
    g.memory->setDefined(g.parameterAddress, config.parameters.size());
    g.memory->find(g.parameterAddress)->readOnly = true;
  }
  if (config.cooperative && !partOf) {
    g.workspace =
        g.memory->allocate(kernel.program->device(), 256, AllocationKind::Module, function.name + "'s grid barrier");
    if (!g.workspace) {
      return moert::error(moert::Code::OutOfMemory, where, "no memory for the grid's barrier");
    }
    g.memory->setDefined(g.workspace, 256);
  }
  for (const Fixup &fixup : g.code->fixups) {
    uint64_t value = uint64_t(fixup.addend);
    if (fixup.kind == Fixup::Parameter) {
      value += g.parameterAddress;
    } else if (fixup.kind == Fixup::DynamicShared) {
      value += sharedStart + dynamicStart;
    } else {
      bool known = false;
      for (const auto &place : function.shared) {
        if (place.variable == fixup.index) {
          value += sharedStart + place.offset;
          known = true;
        }
      }
      if (!known) {
        continue; // a variable of another kernel
      }
    }
    for (unsigned l = 0; l < 32; ++l) {
      std::memcpy(&g.constants[fixup.offset + size_t(l) * (fixup.bits / 8)], &value, fixup.bits / 8);
    }
  }
  g.warpsPerBlock = uint32_t((threads + 31) / 32);
  g.primaryIsDone = !config.waitsForPrimary;
  g.start = config.before;
  g.finish = config.before;
  if (partOf) {
    g.launchNumber = partOf->launchNumber;
    return grid;
  }
  g.launchNumber = g.memory->actors.addLaunch(function.name);
  uint64_t actors = config.grid.count() * g.warpsPerBlock * actorsPerWarp;
  if (g.options.checks && actors > (uint64_t(1) << 31)) {
    return moert::error(moert::Code::InvalidArgument, where, config.grid.count(),
                        " blocks are more than can be checked");
  }
  g.firstActor = g.memory->actors.addRange(g.launchNumber, g.options.checks ? uint32_t(actors) : 1,
                                           g.warpsPerBlock * actorsPerWarp, uint32_t(config.cluster.count()),
                                           kernel.program->device());
  return grid;
}

Result<std::unique_ptr<Grid>> Grid::create(const Kernel &kernel, const LaunchConfig &config, const ExecOptions &options,
                                           FindingSink &sink) {
  MOERT_ASSIGN(grid, GridState::make(kernel, config, options, sink, nullptr));
  if (options.hostThreads > 1 && !grid->options.checks && config.grid.count() > config.cluster.count()) {
    return makeParallel(std::move(grid));
  }
  return std::unique_ptr<Grid>(std::move(grid));
}

GridState::~GridState() {
  if (parameterAddress && ownsMemory) {
    memory->free(parameterAddress);
  }
  if (workspace && ownsMemory) {
    memory->free(workspace);
  }
}

Actor GridState::newAgent() {
  if (mbarrierActors == mbarrierActorsEnd) {
    mbarrierActors = memory->actors.addRange(launchNumber, 256, 0, 1, kernel->program->device());
    mbarrierActorsEnd = mbarrierActors + 256;
  }
  return mbarrierActors++;
}

bool GridState::startCluster() {
  uint64_t perCluster = config.cluster.count();
  if (tickets && nextBlock < config.grid.count()) {
    nextBlock = std::min(tickets->fetch_add(perCluster), config.grid.count());
  }
  if (nextBlock >= config.grid.count()) {
    return false;
  }
  std::vector<Block *> members;
  Dim3 clusters{config.grid.x / config.cluster.x, config.grid.y / config.cluster.y, config.grid.z / config.cluster.z};
  uint64_t cluster = nextBlock / perCluster;
  Dim3 at{uint32_t(cluster % clusters.x), uint32_t(cluster / clusters.x % clusters.y),
          uint32_t(cluster / clusters.x / clusters.y)};
  for (uint64_t r = 0; r < perCluster; ++r) {
    auto made = std::make_unique<Block>();
    Block &block = *made;
    block.grid = this;
    block.rank = uint32_t(r);
    block.index.x = at.x * config.cluster.x + uint32_t(r % config.cluster.x);
    block.index.y = at.y * config.cluster.y + uint32_t(r / config.cluster.x % config.cluster.y);
    block.index.z = at.z * config.cluster.z + uint32_t(r / config.cluster.x / config.cluster.y);
    block.linear = nextBlock + r;
    members.push_back(&block);
    blocks.push_back(std::move(made));
  }
  for (Block *block : members) {
    block->clusterBlocks = members;
    block->clusterFirst = members[0];
    startBlock(*block);
  }
  nextBlock += tickets ? 0 : perCluster;
  return true;
}

static void setSpecial(Warp &w, SpecialRegister special, uint64_t value) {
  for (unsigned l = 0; l < 32; ++l) {
    if (typeOf(special) == ptx::Type::U64) {
      std::memcpy(&w.specials[size_t(special) * 256 + l * 8], &value, 8);
    } else {
      std::memcpy(&w.specials[size_t(special) * 256 + l * 4], &value, 4);
    }
  }
}

static void setSpecials(Warp &w) {
  const GridState &g = *w.grid;
  const Block &b = *w.block;
  const LaunchConfig &c = g.config;
#define EMU_PTX_COUNT(enumerator, name, type) +1
  w.specials.resize(size_t(0 EMU_PTX_SPECIALS(EMU_PTX_COUNT)) * 256 + 64);
#undef EMU_PTX_COUNT
  using S = SpecialRegister;
  auto each = [&](S special, auto value) {
    for (unsigned l = 0; l < 32; ++l) {
      uint32_t v = value(l);
      std::memcpy(&w.specials[size_t(special) * 256 + l * 4], &v, 4);
    }
  };
  each(S::TidX, [&](unsigned l) { return w.threadOf(l).x; });
  each(S::TidY, [&](unsigned l) { return w.threadOf(l).y; });
  each(S::TidZ, [&](unsigned l) { return w.threadOf(l).z; });
  each(S::Laneid, [&](unsigned l) { return l; });
  each(S::LanemaskEq, [&](unsigned l) { return 1U << l; });
  each(S::LanemaskLt, [&](unsigned l) { return (1U << l) - 1; });
  each(S::LanemaskLe, [&](unsigned l) { return (2U << l) - 1; });
  each(S::LanemaskGt, [&](unsigned l) { return ~((2U << l) - 1); });
  each(S::LanemaskGe, [&](unsigned l) { return ~((1U << l) - 1); });
  const std::pair<S, uint64_t> uniform[] = {
      {S::NtidX, c.block.x},
      {S::NtidY, c.block.y},
      {S::NtidZ, c.block.z},
      {S::CtaidX, b.index.x},
      {S::CtaidY, b.index.y},
      {S::CtaidZ, b.index.z},
      {S::NctaidX, c.grid.x},
      {S::NctaidY, c.grid.y},
      {S::NctaidZ, c.grid.z},
      {S::ClusteridX, b.index.x / c.cluster.x},
      {S::ClusteridY, b.index.y / c.cluster.y},
      {S::ClusteridZ, b.index.z / c.cluster.z},
      {S::NclusteridX, c.grid.x / c.cluster.x},
      {S::NclusteridY, c.grid.y / c.cluster.y},
      {S::NclusteridZ, c.grid.z / c.cluster.z},
      {S::ClusterCtaidX, b.index.x % c.cluster.x},
      {S::ClusterCtaidY, b.index.y % c.cluster.y},
      {S::ClusterCtaidZ, b.index.z % c.cluster.z},
      {S::ClusterNctaidX, c.cluster.x},
      {S::ClusterNctaidY, c.cluster.y},
      {S::ClusterNctaidZ, c.cluster.z},
      {S::ClusterCtarank, b.rank},
      {S::ClusterNctarank, c.cluster.count()},
      {S::IsExplicitCluster, c.cluster.count() > 1 ? ~0U : 0},
      {S::Warpid, w.index},
      {S::Nwarpid, g.warpsPerBlock},
      {S::Smid, b.linear % 132},
      {S::Envreg1, uint32_t(c.gridWorkspace >> 32)},
      {S::Envreg2, uint32_t(c.gridWorkspace)},
      {S::Nsmid, 132},
      {S::Gridid, g.launchNumber},
      {S::TotalSmemSize, g.sharedBytes},
      {S::AggrSmemSize, g.sharedBytes},
      {S::DynamicSmemSize, c.dynamicShared},
      // Where cooperative groups find the grid's barrier: an address of 64 bits in two registers.
      {S::Envreg1, g.workspace >> 32},
      {S::Envreg2, g.workspace & 0xFFFFFFFF},
  };
  for (const auto &[special, value] : uniform) {
    setSpecial(w, special, value);
  }
}

void GridState::startBlock(Block &block) {
  const FunctionCode &function = code->functions[kernel->functionIndex];
  block.actor = firstActor + Actor(options.checks ? block.linear * warpsPerBlock * actorsPerWarp : 0);
  block.place.block = block.actor;
  block.place.cluster = block.clusterFirst->actor;
  block.place.device = kernel->program->device();
  const uint32_t bytes = reservedAt ? reservedAt + reservedBytes : sharedBytes;
  block.shared.assign(bytes + 64, 0);
  if (options.checks) {
    block.shadow = std::make_unique<Shadow>(bytes, false);
    if (reservedAt) {
      block.shadow->setDefined(reservedAt, reservedBytes, true);
    }
  }
  const bool inCluster = options.checks && block.clusterBlocks.size() > 1;
  if (inCluster) {
    block.started = memory->actors.now();
    memory->actors.tick();
  }
  auto threads = uint32_t(config.block.count());
  block.liveThreads = threads;
  block.liveWarps = warpsPerBlock;
  for (uint32_t i = 0; i < warpsPerBlock; ++i) {
    auto made = std::make_unique<Warp>();
    Warp &w = *made;
    w.block = &block;
    w.grid = this;
    w.index = i;
    w.actor = block.actor + i * actorsPerWarp;
    uint32_t count = std::min(32U, threads - i * 32);
    w.live = count == 32 ? ~0U : (1U << count) - 1;
    w.checks = options.checks;
    setSpecials(w);
    w.base[1] = constants.data();
    w.base[2] = w.specials.data();
    Frame *frame = w.newFrame(function, nullptr, w.live);
    w.newSplit(0, w.live, -1, frame);
    if (options.checks) {
      w.clocks.resize(32);
      for (LaneClocks &c : w.clocks) {
        c.known = start;
        c.proxied = start;
        c.block = block.started;
      }
      w.refreshReach();
    }
    block.warps.push_back(std::move(made));
  }
}

bool GridState::mayStartDependents() const {
  return finishedBlocks + dependentBlocks >= config.grid.count() || state == State::Done;
}

void GridState::primaryDone(const Clock &clock) {
  primaryIsDone = true;
  primaryClock = clock;
  afterPrimary = start;
  afterPrimary.join(clock);
  finish.join(clock);
  for (auto &block : blocks) {
    for (auto &warp : block->warps) {
      for (Split &split : warp->splits) {
        if (split.mask && split.state == Split::Waiting) {
          split.state = Split::Ready;
        }
      }
    }
  }
}

bool GridState::landOne(bool pickRandom) {
  std::vector<Block *> having;
  for (auto &block : blocks) {
    bool any = !block->work.empty();
    for (auto &warp : block->warps) {
      any |= !warp->copies.empty();
    }
    if (any) {
      having.push_back(block.get());
    }
  }
  if (having.empty()) {
    return false;
  }
  Block &block = *having[pickRandom ? random() % having.size() : 0];
  ++changes;
  if (!block.work.empty() && (!pickRandom || random() % 2)) {
    size_t which = pickRandom ? random() % block.work.size() : 0;
    // Products of one warp are made in order: the next adds to what the one before left in the accumulators.
    if (block.work[which].kind == PendingWork::MmaGroup) {
      const Warp *warp = block.work[which].warp;
      which = 0;
      while (block.work[which].kind != PendingWork::MmaGroup || block.work[which].warp != warp) {
        ++which;
      }
    }
    PendingWork work = std::move(block.work[which]);
    block.work.erase(block.work.begin() + long(which));
    if (work.read && !work.sourceRead) {
      work.read();
    }
    work.land();
    return true;
  }
  for (auto &warp : block.warps) {
    if (!warp->copies.empty() && landSomeCopy(*warp)) {
      return true;
    }
  }
  if (!block.work.empty()) {
    PendingWork work = std::move(block.work.front());
    block.work.pop_front();
    if (work.read && !work.sourceRead) {
      work.read();
    }
    work.land();
  }
  return true;
}

void GridState::learnEnd() {
  if (!tickets) { // a part of a launch leaves that to the whole
    finish.learn(Clock::launchKey(launchNumber), memory->actors.tick());
  }
}

void GridState::deadlock() {
  std::string positions;
  const Op *first = nullptr;
  Warp *firstWarp = nullptr;
  unsigned shown = 0;
  for (auto &block : blocks) {
    for (auto &warp : block->warps) {
      for (const Split &split : warp->splits) {
        if (!split.mask) {
          continue;
        }
        const Op &op = split.frame->code->ops[split.pc];
        if (!first) {
          first = &op;
          firstWarp = warp.get();
        }
        if (++shown <= 64) {
          char text[96];
          std::snprintf(text, sizeof text, "%s block (%u,%u,%u) warp %u lanes 0x%08x at line %u",
                        positions.empty() ? "" : ";", block->index.x, block->index.y, block->index.z, warp->index,
                        split.mask, op.inst ? op.inst->location.line : 0);
          positions += text;
        }
      }
    }
  }
  if (first) {
    firstWarp->fault(FindingKind::Deadlock, LaunchError::Deadlock, *first, 0,
                     "nothing can go on and nothing is in flight:" + positions +
                         (shown > 64 ? "; and " + std::to_string(shown - 64) + " more" : ""));
  }
}

Grid::State GridState::step(uint64_t budget, bool alone) {
  const State now = advance(budget, alone);
  if (now == State::Done || now == State::Failed) {
    reportReadsBesideAtomics();
  }
  return now;
}

Grid::State GridState::advance(uint64_t budget, bool alone) {
  didProgress = false;
  if (state == State::Done || state == State::Failed) {
    return state;
  }
  state = State::Running;
  uint64_t resident = config.cooperative ? config.grid.count() : std::max<uint64_t>(options.residentBlocks, 1);
  if (tickets) {
    resident = (resident + options.hostThreads - 1) / options.hostThreads;
  }
  uint64_t done = 0;
  while (done < budget) {
    while (blocks.size() < resident && startCluster()) {
    }
    ++rotation;
    bool progress = false, spin = true, waits = false;
    for (size_t i = 0; i < blocks.size(); ++i) {
      Block &block = *blocks[i];
      for (auto &warp : block.warps) {
        if (!warp->live) {
          continue;
        }
        if (options.timing == Timing::Random && random() % 8 == 0) {
          landOne(true);
        }
        uint64_t before = warp->instructions;
        uint64_t turn = options.timing == Timing::Random ? 1 + random() % 200 : 400;
        Step result = warp->run(turn);
        uint64_t executed = warp->instructions - before;
        done += executed;
        steps += executed;
        virtualTime += executed;
        if (result == Step::Failed) {
          state = State::Failed;
          learnEnd();
          return state;
        }
        progress |= executed != 0;
        spin &= executed == 0 || warp->spinning;
        for (const Split &split : warp->splits) {
          waits |= split.mask && split.state == Split::Waiting;
        }
      }
    }
    // Clusters leave together: their shared memory is visible to each other.
    for (size_t i = 0; i < blocks.size();) {
      Block *first = blocks[i]->clusterFirst;
      size_t members = first->clusterBlocks.size();
      bool over = true;
      for (Block *member : first->clusterBlocks) {
        over &= member->liveWarps == 0;
      }
      if (!over) {
        i += members;
        continue;
      }
      for (size_t m = 0; m < members; ++m) {
        Block &block = *blocks[i + m];
        for (auto &warp : block.warps) {
          for (unsigned l = 0; l < 32; ++l) {
            landCopies(*warp, l, UINT32_MAX);
          }
          total.instructions += warp->instructions;
          total.threadInstructions += warp->threadInstructions;
        }
        while (!block.work.empty()) {
          PendingWork work = std::move(block.work.front());
          block.work.pop_front();
          if (work.read && !work.sourceRead) {
            work.read();
          }
          work.land();
        }
        total.sharedAccesses += block.counts.sharedAccesses;
        total.bankConflicts += block.counts.bankConflicts;
        total.globalAccesses += block.counts.globalAccesses;
        total.globalSectors += block.counts.globalSectors;
        dependentBlocks -= block.launchedDependents;
        ++finishedBlocks;
      }
      blocks.erase(blocks.begin() + long(i), blocks.begin() + long(i + members));
      ++changes;
      progress = true;
      spin = false;
    }
    didProgress |= progress;
    if (blocks.empty() && nextBlock >= config.grid.count()) {
      state = State::Done;
      learnEnd();
      return state;
    }
    if (options.stepLimit && steps > options.stepLimit) {
      for (auto &block : blocks) {
        for (auto &warp : block->warps) {
          if (warp->live) {
            const Split *at = nullptr;
            for (const Split &split : warp->splits) {
              at = split.mask ? &split : at;
            }
            warp->fault(FindingKind::Limit, LaunchError::Limit, at->frame->code->ops[at->pc], 0,
                        "the limit of " + std::to_string(options.stepLimit) + " warp instructions is reached");
            state = State::Failed;
            learnEnd();
            return state;
          }
        }
      }
    }
    if (progress && !spin) {
      quietRotations = 0;
      // Late does not mean never: somebody may spin on what is in flight by other means than an mbarrier.
      if (options.timing == Timing::Late && rotation % 256 == 0) {
        landOne(false);
      }
      continue;
    }
    // Nobody goes on but those who ask an mbarrier again and again.
    if (landOne(options.timing == Timing::Random)) {
      quietRotations = 0;
      didProgress = true;
      continue;
    }
    if (changes != lastChanges) {
      lastChanges = changes;
      quietRotations = 0;
    }
    if (progress && ++quietRotations < 64) {
      continue;
    }
    bool parted = false;
    for (auto &block : blocks) {
      for (auto &warp : block->warps) {
        for (Entry &meeting : warp->entries) {
          if (meeting.waits()) {
            warp->partMeeting(meeting);
            parted = true;
          }
        }
      }
    }
    if (parted) {
      quietRotations = 0;
      continue;
    }
    if (waits && !primaryIsDone) {
      state = State::WaitsForPrimary;
      didProgress = false;
      return state;
    }
    if (!alone) {
      didProgress = false;
      return state;
    }
    deadlock();
    state = State::Failed;
    learnEnd();
    return state;
  }
  return state;
}

Result<LaunchResult> launch(const Kernel &kernel, const LaunchConfig &config, const ExecOptions &options,
                            FindingSink &sink) {
  MOERT_ASSIGN(grid, Grid::create(kernel, config, options, sink));
  Grid::State state = Grid::State::Running;
  while (state != Grid::State::Done && state != Grid::State::Failed) {
    state = grid->step(1 << 20);
    if (state == Grid::State::WaitsForPrimary) {
      grid->primaryDone(config.before);
    }
  }
  LaunchResult result;
  result.error = grid->error();
  result.end = grid->end();
  result.counts = grid->counts();
  return result;
}

} // namespace moert::emulator
