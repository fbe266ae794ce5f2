//===- StepPlan.h - One step variant with its operands resolved ----*- C++ -*-===//
//
// Made once per session: every operand is a 64-bit word in one array, launches point into it, and a list says which
// words, grids and byte counts change with T and M. Binding a step patches those (nothing when T, M and the logits are
// as before); executing it walks the actions.
//
// Launches in a row that do not touch each other's results form one wave, which the backend runs without a barrier
// inside: q, k and v of one layer, for instance. Collectives likewise are handed over together.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_CORE_STEPPLAN_H
#define MOERT_CORE_STEPPLAN_H

#include "runtime/core/Backend.h"
#include "runtime/core/Extent.h"
#include "runtime/core/Program.h"
#include "runtime/core/Trace.h"
#include "runtime/core/Weights.h"

namespace moert {

class StepPlan {
public:
  /// What operands are resolved against.
  struct Context {
    const Program &program;
    const format::Variant &variant;
    const std::vector<void *> &kernels;
    /// Per buffer its memory; null for the caller's.
    const std::vector<uint8_t *> &buffers;
    /// The entry's arguments that are the caller's memory, as buffers: inputs, then outputs.
    const std::vector<uint32_t> &arguments;
    Weights &weights;
    int64_t sequences, context;
    RankPlace place;
    /// Whether arena and inputs are regions, which placeRegions gives memory; `buffers` has none for them then.
    bool separate = false;
  };

  static Result<StepPlan> create(const Context &context, const format::StepVariant &step);

  bool covers(int64_t tokens) const { return tokens >= minTokens && tokens <= maxTokens; }

  /// The regions of a plan that was made with `separate`; see Regions.h.
  size_t regionCount() const { return regions.size(); }
  uint32_t regionBuffer(size_t region) const { return regions[region].buffer; }
  uint64_t regionBytes(size_t region, int64_t tokens, int64_t rows) const;
  void placeRegions(const std::vector<void *> &memory);

  /// Sets everything that depends on the step's sizes and arguments (as many as the entry has).
  void bind(int64_t tokens, int64_t rows, const std::vector<void *> &arguments);
  /// Issues all commands, but those that only choose tokens if `isPicking` is false; they are done when the backend is
  /// synchronized. False if the deadline passed, the backend or another rank failed; `failed` is the index of the last
  /// command that was issued.
  bool execute(Backend &backend, Trace &trace, bool isPicking, uint32_t &failed);

  uint32_t waveCount() const { return waves; }
  /// Whether the host may have to read in the middle how much travels: no graph holds such a step.
  bool hasExchanges() const { return exchanges; }
  uint32_t launchCount() const { return uint32_t(launches.size()); }

private:
  /// A count affine in T and M; B and C are folded into `fixed`.
  struct Count {
    int64_t fixed, perToken, perRow;
    int64_t at(int64_t tokens, int64_t rows) const { return fixed + perToken * tokens + perRow * rows; }
    bool changes() const { return perToken || perRow; }
  };
  struct GridRule {
    Count units;
    int64_t divisor, cap, factor;
  };
  struct Transfer {
    uint32_t to, from; ///< words
    Count bytes;
    uint64_t now; ///< bytes of the bound step
    uint8_t value;
  };
  /// A collective; its call, at the same place in `calls`, is of the bound step, but for the pointers.
  struct Together {
    static constexpr uint32_t kNone = 0xffffffffu;
    /// The operand of an exchange that says how many rows go to each rank.
    static constexpr uint32_t kCounts = 3;
    uint32_t command;
    uint32_t word; ///< first of its operands
    uint32_t operands;
    Count to, from;
    /// Of an exchange: the later one whose counts are there when it runs.
    uint32_t later = kNone;
  };
  enum class ActionKind : uint8_t { Launches, Copy, Fill, Collective, Record, Wait };
  struct Action {
    ActionKind kind;
    uint8_t stream;
    uint32_t command;      ///< index in the variant, of the first if several
    uint32_t first, count; ///< launches, transfer, collectives or event
    bool isPick = false;   ///< of launches that write the state `picks`
  };
  struct Patch {
    uint32_t word;
    format::Dim dim;
  };
  struct ArgumentPatch {
    uint32_t word, argument;
    uint64_t offset;
  };

  struct Region {
    uint32_t buffer;
    /// Offsets in the region and sizes of what must fit.
    std::vector<std::pair<uint64_t, Count>> parts;
  };
  struct RegionPatch {
    uint32_t word, region;
    uint64_t offset;
  };

  Status addRegions(const Context &context, const format::StepVariant &step);
  Status addCommand(const Context &context, uint32_t index, std::vector<uint32_t> &firstWords);
  Status addCollective(const Context &context, uint32_t index, uint32_t firstWord);
  void pairExchange(const Context &context, uint32_t exchange);
  Result<Count> fold(const Context &context, const format::Extent &extent) const;
  Result<uint64_t> resolve(const Context &context, const format::Operand &operand);
  static int64_t gridOf(const GridRule &rule, int64_t tokens, int64_t rows);
  bool executeTraced(Backend &backend, Trace &trace, bool isPicking, uint32_t &failed);
  bool perform(Backend &backend, const Action &action);
  bool performTogether(Backend &backend, const Action &action);

  int64_t minTokens = 0, maxTokens = 0;
  std::vector<uint64_t> words;
  std::vector<Patch> patches;
  std::vector<ArgumentPatch> argumentPatches;
  std::vector<Region> regions;
  std::vector<RegionPatch> regionPatches;
  std::vector<Launch> launches;
  std::vector<GridRule> grids;
  /// Per launch the index of its command.
  std::vector<uint32_t> launchCommands;
  /// Indices of launches whose grid changes, and transfers whose size does.
  std::vector<uint32_t> movingGrids;
  std::vector<Transfer> transfers;
  std::vector<Together> collectives;
  std::vector<CollectiveCall> calls;
  std::vector<Action> actions;
  uint32_t waves = 0;
  /// The state that launches choose tokens into; kNoBuffer: none.
  uint32_t picks = kNoBuffer;
  bool exchanges = false;
  int64_t boundTokens = -1, boundRows = -1;
  std::vector<void *> boundArguments;
};

} // namespace moert

#endif // MOERT_CORE_STEPPLAN_H
